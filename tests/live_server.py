"""An application behind a real socket in this process, for tests with clients that bring their own HTTP."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import HTTPServer

from flask import Flask
from werkzeug.serving import make_server


@contextmanager
def serving(server: HTTPServer) -> Iterator[int]:
    """The port at which `server` answers, in a thread, for as long as the context lasts."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def listening(app: Flask) -> AbstractContextManager[int]:
    """The port at which `app` answers on 127.0.0.1 for as long as the context lasts."""
    return serving(make_server("127.0.0.1", 0, app, threaded=True))
