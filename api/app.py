"""The WSGI application. `gunicorn -c config/gunicorn.conf.py` serves it, `python api/app.py` does for development.

`create_app` makes one; the attribute `app` (for `gunicorn api.app:app`) is made when a server first asks for it,
so that importing this module does nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __package__ in (None, ""):  # run as a script: sys.path starts with this folder, not with the project's
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import logging
import signal
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from flask import Flask

from api import errors, hot_path
from api.auth import LOOPBACK
from api.documentation import documentation
from api.inference_protocol import inference_protocol
from api.keys import has_keys
from api.mlflow_protocol import mlflow_protocol
from api.routes import EXTENSION, Services, make_services, routes
from config.settings import ConfigurationError, Settings, load_settings, logs_directory, registry_directory


def create_app(
    settings: Settings | None = None,
    *,
    registry: Path | None = None,
    logs: Path | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Flask:
    """An application that is ready to answer, with or without a model; it loads one at its first request.

    Without arguments it takes the configuration in force and the state root's folders. Raises `ConfigurationError`.
    """
    settings = settings or load_settings()
    app = Flask("mlops", static_folder=None, root_path=str(Path(__file__).parent))
    app.url_map.merge_slashes = False  # else a double slash is answered by a redirect, which is a page of HTML
    core = make_services(settings, registry or registry_directory(), logs or logs_directory(), clock)
    app.extensions[EXTENSION] = core
    hot_path.install(app, core)
    for blueprint in (routes, mlflow_protocol, inference_protocol, documentation):
        app.register_blueprint(blueprint)
    errors.install(app)
    return app


def start_reloading(app: Flask) -> None:
    """Loads the model and starts to watch the plan; a server calls it in each worker, after the fork."""
    services: Services = app.extensions[EXTENSION]
    services.reloader.ensure_running()


def bind_address(settings: Settings) -> tuple[str, int]:
    """Host and port to listen at; raises `ConfigurationError` for an open address without keys."""
    deployment = settings.deployment
    if deployment.model_serve_host not in LOOPBACK and not deployment.open_without_keys and not has_keys():
        raise ConfigurationError(
            f"deployment.model_serve_host is {deployment.model_serve_host}, and no key is set: "
            "create one (python main.py keys create), listen at 127.0.0.1, or set deployment.open_without_keys"
        )
    return deployment.model_serve_host, deployment.model_serve_port


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()["app"] = application = create_app()
    return application


def main() -> int:
    """Serves in this process with Werkzeug's server, which is for development. 2 when the configuration is wrong."""
    from werkzeug.serving import make_server

    from config.logs import configure_logging

    try:
        settings = load_settings()
        host, port = bind_address(settings)
        app = create_app(settings)
    except ConfigurationError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    configure_logging(settings.logging.level, "server")
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # else a line a request
    start_reloading(app)
    server = make_server(host, port, app, threaded=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.stderr.write(f"serving for development at http://{host}:{server.server_port}; Ctrl-C ends it\n")
    with suppress(KeyboardInterrupt):
        server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
