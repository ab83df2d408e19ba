# ruff: noqa: N999 - the name that gunicorn's users look for
"""gunicorn's settings for the server: `gunicorn -c config/gunicorn.conf.py`, from any folder.

The application is imported before the fork, which the workers then share; the model is loaded after it, in each worker
before that takes its first connection, because threads do not survive a fork.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

# One thread a worker computes; a second one of OpenBLAS would only hold memory.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
_PROJECT = Path(__file__).resolve().parent.parent
if str(_PROJECT) not in sys.path:
    sys.path.insert(0, str(_PROJECT))

from api.app import bind_address, start_reloading  # noqa: E402
from api.process import prepare_parent, prepare_worker  # noqa: E402
from api.routes import EXTENSION  # noqa: E402
from api.shared_counters import hold, remove_idle, shared_directory  # noqa: E402
from api.worker_refusals import refuser  # noqa: E402
from config.settings import ConfigurationError, load_settings  # noqa: E402
from monitoring.log_policy import FieldPolicy  # noqa: E402

try:
    _settings = load_settings()
    _host, _port = bind_address(_settings)
    FieldPolicy.of(_settings)  # the key of hashed fields is there, or can be made
except ConfigurationError as error:
    sys.stderr.write(f"{error}\n")
    sys.exit(2)

wsgi_app = "api.app:app"
bind = f"[{_host}]:{_port}" if ":" in _host else f"{_host}:{_port}"
workers = _settings.deployment.workers
# The loop of a worker answers small predictions itself, in the order in which they have arrived whole; threads take
# large bodies and every other route. Measured on two busy cores against the same worker with four threads for
# everything, all at raised priority: at 64 connections 5 to 10 % more requests at half the median latency, at one
# connection 1.7 to 1.9 times as many. (At ordinary priority, one run of three rounds showed no gain at one connection.)
# One and two threads for everything were slower than four. A client that is slow to send, or to take its replies, holds
# up nobody. `deployment.workers` is the count of predictions computed at once: more than one a core was not measured.
worker_class = "config.prompt_worker.PromptWorker"
threads = 4
keepalive = 75
# A leak that nobody has found yet must not take the machine; workers do not all go at once. One that is renewed answers
# what it has accepted, and tells its clients to connect again.
max_requests = 5_000_000
max_requests_jitter = 500_000
preload_app = True
# A worker that does not report for this long is replaced; heartbeats go to memory, never to a slow disk.
timeout = 60
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108
# An idle kept-alive connection holds a worker for all of this when it stops; a request in flight needs far less.
graceful_timeout = 4
# Off: it would make a folder outside the state root.
control_socket_disable = True
loglevel = _settings.logging.level.lower()
logger_class = "config.gunicorn_log.JsonLogger"


def on_starting(server: Any) -> None:
    remove_idle(shared_directory())  # what a server that was killed has left
    server.counters = hold(shared_directory())  # a worker that ends leaves its counts to the next


def when_ready(_server: Any) -> None:
    prepare_parent()


def post_worker_init(worker: Any) -> None:
    start_reloading(worker.wsgi)
    worker.most_bytes = _settings.deployment.max_request_bytes
    worker.refuse = refuser(worker.wsgi.extensions[EXTENSION])
    prepare_worker()


def on_exit(server: Any) -> None:
    if server.counters is not None:
        os.close(server.counters)
    remove_idle(shared_directory())
