"""MLflow in a process of its own, for runs on small tables.

Importing MLflow holds the interpreter for seconds, and so do the fits of small tables: in one process they add up. The
process is started first, imports while the run reads and trains, and then does what the run asks of `RunLog` and
`Registry`, one call at a time. It ends when the run's process has ended, however that was.
"""

from __future__ import annotations

import importlib
import os
import pickle
import socket
import subprocess
import sys
from multiprocessing.connection import Connection
from typing import Any, cast

from config.garbage import uncollected
from config.home import PROJECT_ROOT
from models.mlflow_connection import HEAVY_MODULES, MlflowConnection, RegistryError, set_environment
from models.mlflow_registry import Registry
from models.mlflow_runs import RunLog


class MlflowProcess:
    """`registry` and `runs` are used as if they were here; what they raise there is raised here."""

    def __init__(self, address: str, experiment_name: str, registered_name: str) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                cwd=PROJECT_ROOT,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the run, which may have something to say to MLflow then
            )
        self._pipe = Connection(ours.detach())
        self._pipe.send((address, experiment_name, registered_name))
        self.registry = cast(Registry, _Remote(self, "registry", registered_name))
        self.runs = cast(RunLog, _Remote(self, "runs", registered_name))

    def call(self, target: str, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        try:
            self._pipe.send((target, method, args, kwargs))
            done, result = self._pipe.recv()
        except (OSError, EOFError) as error:
            raise RegistryError("the process that talks to MLflow has ended; its words are above") from error
        if not done:
            raise result
        return result

    def close(self) -> None:
        """Lets the process end; it has nothing left to do, so nobody waits for it."""
        self._pipe.close()


class _Remote:
    """Stands for an object of the other process: its methods are called there."""

    is_elsewhere = True

    def __init__(self, process: MlflowProcess, target: str, registered_name: str) -> None:
        self.registered_name = registered_name
        self._process = process
        self._target = target

    def __getattr__(self, method: str) -> Any:
        if method.startswith("_"):
            raise AttributeError(method)
        return lambda *args, **kwargs: self._process.call(self._target, method, args, kwargs)


def serve(pipe: Connection) -> None:
    """Answers calls until the other side has gone."""
    address, experiment_name, registered_name = pipe.recv()
    set_environment()
    with uncollected():
        for name in HEAVY_MODULES:
            importlib.import_module(name)
    connection = MlflowConnection(address)
    targets = {"registry": Registry(connection, registered_name), "runs": RunLog(connection, experiment_name)}
    while True:
        target, method, args, kwargs = pipe.recv()
        try:
            answer = (True, getattr(targets[target], method)(*args, **kwargs))
        except Exception as error:
            answer = (False, _sendable(error))
        pipe.send(answer)


def _sendable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - what we have just made
    except Exception:
        return RegistryError(str(error))
    return error


if __name__ == "__main__":
    try:
        serve(Connection(int(sys.argv[1])))
    except (EOFError, OSError):
        os._exit(0)  # nothing here needs the second that tidying up all those modules takes
