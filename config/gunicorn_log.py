"""gunicorn's own messages in the log of the server, a line of JSON each from the very first on."""

from __future__ import annotations

from typing import Any

from gunicorn.glogging import Logger  # type: ignore[import-untyped]

from config.logs import configure_logging


class JsonLogger(Logger):  # type: ignore[misc]
    """gunicorn makes one before it says anything, and sets it up again when it reads its settings anew."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        configure_logging(cfg.loglevel.upper(), "server", as_json=True)
        self.error_log.handlers.clear()
        self.error_log.propagate = True  # one format, one file
