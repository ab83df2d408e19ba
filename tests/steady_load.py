"""Light load without end, from a host of a test's network: what was answered, and what was not."""

from __future__ import annotations

import http.client
import json
import random
import threading
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

from tests.networks import Host
from tests.parts import wait_for


class Load:
    """Clients that ask for a prediction now and then until the block ends; answers and failures are kept."""

    def __init__(
        self, host: Host, port: int, rows: Sequence[Mapping[Any, Any]], clients: int = 2, pause: float = 0.04
    ) -> None:
        self._host = host
        self._port = port
        self._pause = pause
        self._stop = threading.Event()
        self._bodies = [json.dumps(row) for row in rows]
        self._threads = [threading.Thread(target=self._send, args=(number,)) for number in range(clients)]
        self.ids: list[str] = []
        #: Status or error of each request that was not answered with 200.
        self.failures: list[str] = []

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        self.goes_on()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=30)

    @property
    def answered(self) -> set[str]:
        return {prediction_id.replace("-", "") for prediction_id in list(self.ids)}

    def goes_on(self, more: int = 20) -> None:
        """Waits for that many more answers."""
        target = len(self.ids) + more
        wait_for(lambda: len(self.ids) >= target, f"{more} more answers", 30)

    def _send(self, number: int) -> None:
        bodies = random.Random(number).sample(self._bodies, len(self._bodies))
        with self._host.entered():
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
            for body in cycle(bodies):
                if self._stop.wait(self._pause):
                    break
                try:
                    connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
                    reply = connection.getresponse()
                    content = reply.read()
                except (OSError, http.client.HTTPException) as error:
                    connection.close()
                    self.failures.append(type(error).__name__)
                    continue
                if reply.status == 200:
                    self.ids += json.loads(content)["prediction_id"]
                else:
                    self.failures.append(str(reply.status))
            connection.close()
