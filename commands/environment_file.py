"""`init-env`: makes docker/.env, the settings of the compose file, with a random value for every secret.

    EnvironmentFileError    the file is there already, or does not hold what is to be changed

Nothing but the standard library is imported, and Python 3.8 will do: `python3 docker/init_env.py` is for a machine that
has Docker and none of the product's packages.
"""

from __future__ import annotations

import argparse
import os
import re
import secrets
import sys
from pathlib import Path

from config.errors import ProductError
from config.home import PROJECT_ROOT

FOLDER = PROJECT_ROOT / "docker"
EXAMPLE, ENVIRONMENT = FOLDER / ".env.example", FOLDER / ".env"
#: 32 random bytes, 43 characters out of A-Z, a-z, 0-9, - and _.
SECRET_BYTES = 32
#: Their new value is in force with the next `docker compose up -d`; the others belong to a database as well.
ROTATED = ("API_KEY", "ADMIN_API_KEY", "METRICS_API_KEY")
_UP = "docker compose -f docker/docker-compose.yml up -d"
_EMPTY = re.compile(r"^([A-Z][A-Z0-9_]*)=$", re.MULTILINE)


class EnvironmentFileError(ProductError):
    """The file cannot be made or changed; the message says what to do."""

    exit_code = 2


def init_env(name: str | None = None, path: Path | None = None) -> str:
    """Makes the file, or another value for the key `name`; returns what people are to be told."""
    path = path or ENVIRONMENT
    if name is not None:
        rotate(name, path)
        return f"{name} is new; next: {_UP} (the old one is refused from then on)"
    write_environment(path)
    return (
        f"{path} holds new secrets, readable for you alone; keep a copy where you keep passwords.\n"
        f"next:  {_UP} --build\n"
        "then:  python3 docker/smoke_check.py\n"
        f"The key for predictions: grep ^API_KEY= {path}"
    )


def write_environment(path: Path) -> list[str]:
    """Writes the file, for its owner alone (0600), and returns the names of the secrets in it.

    Raises `EnvironmentFileError` when there is one: its secrets may be all that opens a database.
    """
    text = EXAMPLE.read_text(encoding="utf-8")
    filled = _EMPTY.sub(lambda found: f"{found[1]}={secrets.token_urlsafe(SECRET_BYTES)}", text)
    try:
        _create(path, filled)
    except FileExistsError:
        raise EnvironmentFileError(
            f"{path} is there already and was left as it is; its passwords open the databases in the volumes. "
            "A new key of the API: python3 docker/init_env.py --rotate API_KEY"
        ) from None
    return _EMPTY.findall(text)


def rotate(name: str, path: Path) -> None:
    """Replaces the value of one key of the API in the file, atomically. Raises `EnvironmentFileError`."""
    if name not in ROTATED:
        raise EnvironmentFileError(
            f"{name} is none of {', '.join(ROTATED)}; others are changed where they are kept, too"
        )
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise EnvironmentFileError(f"{path}: there is no such file; first: python3 docker/init_env.py") from None
    changed, count = re.subn(rf"(?m)^{name}=.*$", f"{name}={secrets.token_urlsafe(SECRET_BYTES)}", text)
    if count != 1:
        raise EnvironmentFileError(f"{path}: expected one line {name}=…, found {count}")
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    _create(temporary, changed)
    temporary.replace(path)


def _create(path: Path, text: str) -> None:
    """A new file, complete or not there; `os.link` is what refuses to overwrite."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.link(temporary, path)
    finally:
        temporary.unlink()


def main() -> int:
    """`python3 docker/init_env.py`: the command without click."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rotate", metavar="NAME", help=f"another value for one of {', '.join(ROTATED)}")
    try:
        sys.stdout.write(init_env(parser.parse_args().rotate) + "\n")
    except (EnvironmentFileError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return EnvironmentFileError.exit_code
    return 0
