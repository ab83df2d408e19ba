"""Images and compose file, as far as they can be judged without an engine; `docker/smoke_check.py` does the rest."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from api.app import create_app
from commands.environment_file import write_environment
from tests.live_server import listening

PROJECT = Path(__file__).resolve().parent.parent
DOCKER = PROJECT / "docker"
TOOLS = Path(sys.executable).parent
OURS = {"api", "keys", "sync", "scheduler", "first-data", "mlflow"}
ONCE = {"keys", "first-data", "s3-bucket"}


def compose(environment_file: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    files = ("--env-file", str(environment_file), "-f", str(DOCKER / "docker-compose.yml"))
    command = [str(TOOLS / "docker-compose"), *files, *arguments]
    environment = {"PATH": os.environ["PATH"], "HOME": str(environment_file.parent)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("secrets") / ".env"
    write_environment(path)
    return path


@pytest.fixture(scope="module")
def services(secrets: Path) -> dict[str, Any]:
    """Every service as compose understands it, those of the profile `scale` too."""
    done = compose(secrets, "--profile", "scale", "config", "--format", "json")
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(done.stdout)["services"]
    return found


def healthcheck_of_the_server() -> list[str]:
    text = (DOCKER / "Dockerfile").read_text()
    (found,) = re.findall(r"^HEALTHCHECK --.*\\\n\s+CMD (\[.*\])$", text, flags=re.MULTILINE)
    command: list[str] = json.loads(found)
    return command


def test_hadolint_has_nothing_to_say_of_the_dockerfile() -> None:
    done = subprocess.run([TOOLS / "hadolint", DOCKER / "Dockerfile"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_dockerfile_builds_with_the_classic_builder() -> None:
    """Neither `RUN --mount`, nor a heredoc, nor `COPY --chmod`: those need BuildKit."""
    instructions = re.sub(r"(?m)^#.*\n|\\\n", "", (DOCKER / "Dockerfile").read_text())
    assert re.findall(r"(?m)^(?:RUN --.*|.*<<.*|(?:COPY|ADD) --(?!from=).*|# *syntax.*)$", instructions) == []


def test_nothing_but_source_reaches_the_images() -> None:
    """The context is a list of what goes in, so that a secret or a state folder beside it never does."""
    lines = [line for line in (PROJECT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert lines[0] == "*"
    assert {line for line in lines if line.startswith("!")} == {
        *("!requirements.txt", "!requirements-serving.txt", "!main.py", "!generate_sample_data.py"),
        *("!api", "!commands", "!config", "!models", "!monitoring", "!pipeline"),
    }
    assert "models/registry" in lines


def test_the_file_is_valid_with_and_without_its_profile(secrets: Path) -> None:
    for profile in ([], ["--profile", "scale"]):
        done = compose(secrets, *profile, "config", "--quiet")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_without_secrets_it_refuses_and_says_what_to_do(secrets: Path, tmp_path: Path) -> None:
    done = compose(DOCKER / ".env.example", "config", "--quiet")
    assert done.returncode != 0
    assert "run python3 docker/init_env.py" in done.stderr
    lines = secrets.read_text().splitlines()
    for number in [n for n, line in enumerate(lines) if re.match(r"[A-Z_0-9]+=.", line)]:
        (tmp_path / ".env").write_text("\n".join(lines[:number] + lines[number + 1 :]))
        assert compose(tmp_path / ".env", "--profile", "scale", "config", "--quiet").returncode != 0, lines[number]


def test_fault_32_each_process_is_a_service_with_a_health_check_that_can_run(services: dict[str, Any]) -> None:
    """The sketch ran only the scheduler, exposed the API's port, and asked it with a curl that was not there."""
    staying = services.keys() - ONCE
    checks = {name: services[name].get("healthcheck", {}).get("test") for name in staying - {"api"}}
    checks["api"] = ["CMD", *healthcheck_of_the_server()]
    assert [name for name, check in checks.items() if not check] == []
    assert {name for name in OURS & staying if checks[name][1] != "python"} == set()
    programs = {"postgres": "pg_isready", "s3": "mc", "proxy": "curl"}  # in those images; the others are busybox
    others = {name: checks[name][1] for name in staying - OURS}
    assert others == {name: programs.get(name, "wget") for name in others}
    assert {name for name in OURS if "5000" in str(services[name].get("ports", ""))} == {"api", "mlflow"}


def test_fault_32_the_health_check_of_the_server_tells_a_server_from_none(tmp_path: Path) -> None:
    program, *arguments = healthcheck_of_the_server()
    assert program == "python"
    with listening(create_app(registry=tmp_path / "registry", logs=tmp_path / "logs")) as port:
        here = [argument.replace(":5000", f":{port}") for argument in arguments]
        assert subprocess.run([sys.executable, *here], timeout=60).returncode == 0
    assert subprocess.run([sys.executable, *here], timeout=60, stderr=subprocess.DEVNULL).returncode != 0


def test_fault_33_all_who_ask_mlflow_ask_the_one_server_and_its_one_store(services: dict[str, Any]) -> None:
    """The sketch's MLflow service showed another store than the one that the trainer wrote to."""
    asking = {name: services[name]["environment"].get("MLOPS_MLFLOW_URI") for name in ("scheduler", "sync")}
    assert asking == {"scheduler": "http://mlflow:5000", "sync": "http://mlflow:5000"}
    command = services["mlflow"]["command"]
    assert "--backend-store-uri=postgresql+psycopg://mlflow@postgres/mlflow" in command
    assert not [word for word in command if word.startswith(("--registry-store-uri", "--default-artifact-root"))]
    assert "--serve-artifacts" in command and "--app-name=basic-auth" in command
    stores = {services[name]["environment"]["MLOPS_STORE__URL"] for name in ("scheduler", "sync")}
    assert stores == {"postgresql+psycopg://mlops@postgres/mlops"}


def test_fault_35_what_is_mounted_is_in_the_repository_or_a_named_volume(services: dict[str, Any]) -> None:
    """A file that was bind-mounted before it existed became a folder."""
    mounts = [mount for service in services.values() for mount in service.get("volumes", ())]
    binds = [mount for mount in mounts if mount["type"] == "bind"]
    assert [mount["source"] for mount in binds if not Path(mount["source"]).exists()] == []
    files = {mount["target"] for mount in binds if Path(mount["source"]).is_file()}
    assert files == {"/etc/nginx/nginx.conf"}
    assert [mount["source"] for mount in binds if not mount.get("read_only")] == []
    assert {mount["type"] for mount in mounts} == {"bind", "volume"}
    assert [mount for mount in mounts if mount["type"] == "volume" and not mount.get("source")] == []


def test_our_containers_write_to_their_volume_and_tmp_alone(services: dict[str, Any]) -> None:
    for name in OURS:
        service = services[name]
        assert service["read_only"] and service["cap_drop"] == ["ALL"], name
        assert [tmpfs.partition(":")[0] for tmpfs in service["tmpfs"]] == ["/tmp"], name  # noqa: S108
        written = [mount["target"] for mount in service["volumes"] if not mount.get("read_only")]
        assert written == ["/var/lib/mlops", *(["/var/lib/metrics-key"] if name == "keys" else [])], name
    assert re.findall(r"(?m)^USER (.*)$", (DOCKER / "Dockerfile").read_text()) == ["10001:10001", "10001:10001"]


def test_every_port_is_published_on_this_machine_alone_unless_told_otherwise(
    services: dict[str, Any], secrets: Path, tmp_path: Path
) -> None:
    ports = {port["published"]: port["host_ip"] for service in services.values() for port in service.get("ports", ())}
    assert set(ports.values()) == {"127.0.0.1"}
    assert {"5000", "5001", "9090", "3000"} <= ports.keys()
    (tmp_path / ".env").write_text(secrets.read_text() + "BIND_ADDRESS=10.1.2.3\n")
    told = json.loads(compose(tmp_path / ".env", "--profile", "scale", "config", "--format", "json").stdout)
    assert {p["host_ip"] for service in told["services"].values() for p in service.get("ports", ())} == {"10.1.2.3"}


def test_every_service_is_bounded_and_comes_back(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["logging"]["options"].keys() >= {"max-size", "max-file"}, name
        if name not in ONCE:
            assert service["restart"] == "unless-stopped", name
            assert service["deploy"]["resources"]["limits"].keys() >= {"cpus", "memory", "pids"}, name


def test_the_settings_for_several_servers_leave_the_known_port_to_the_proxy(secrets: Path, tmp_path: Path) -> None:
    text = secrets.read_text()
    several = text[text.index("# ---- Several servers") : text.index("# ---- Artifacts on S3")]
    (tmp_path / ".env").write_text(text + re.sub("(?m)^#(?=[A-Z])", "", several))
    services = json.loads(compose(tmp_path / ".env", "config", "--format", "json").stdout)["services"]
    assert services["api"]["deploy"]["replicas"] == 3
    assert "published" not in services["api"]["ports"][0]
    assert services["proxy"]["ports"][0]["published"] == "5000"


def test_images_are_pinned() -> None:
    """A tag of one release each, never a moving one."""
    document = yaml.safe_load((DOCKER / "docker-compose.yml").read_text())
    named = [
        service["image"] for service in document["services"].values() if "build" not in service and "image" in service
    ]
    (base,) = re.findall(r"ARG PYTHON_IMAGE=(\S+)", (DOCKER / "Dockerfile").read_text())
    moving = [image for image in [*named, base] if not re.search(r":(RELEASE\.|v?)\d+[.-]\d+", image)]
    assert [image for image in moving if "mlops-" not in image] == []


def test_the_commands_of_the_compose_file_are_the_products() -> None:
    """Each `python main.py …` of it is understood by the command line."""
    text = (DOCKER / "docker-compose.yml").read_text()
    commands = {line.strip() for line in re.findall(r"python main\.py (keys set [^\n]*)", text)}
    assert len(commands) == 3
    for command in commands:
        arguments = [sys.executable, str(PROJECT / "main.py"), *shlex.split(command), "--help"]
        assert subprocess.run(arguments, capture_output=True, timeout=60).returncode == 0


def test_each_image_of_ours_is_built_by_one_service(services: dict[str, Any]) -> None:
    """Several builds of one name at a time collide on a machine that does not have the image yet."""
    built = [service["image"] for service in services.values() if "build" in service]
    assert sorted(built) == sorted({services[name]["image"] for name in OURS})
