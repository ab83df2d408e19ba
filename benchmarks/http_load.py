"""Load over HTTP: `wrk` where it is installed, else a generator of our own in one Python process.

Each connection sends a request when it has the reply to the last one; bodies take turns. The generator of our own takes
about a core at 10,000 requests a second, which its figures then show: it is for comparing, on one machine.
"""

from __future__ import annotations

import json
import re
import selectors
import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_SCRIPT = """
local requests, turn = {}, 0
function init(_)
  for line in io.lines(%s) do
    requests[#requests + 1] = wrk.format("POST", "/predict", {["Content-Type"] = "application/json"}, line)
  end
end
function request()
  turn = turn %% #requests + 1
  return requests[turn]
end
function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format("RESULT %%d %%d %%d %%d %%d\\n", summary.requests, summary.duration, latency:percentile(50),
    latency:percentile(99), errors.status + errors.connect + errors.read + errors.write + errors.timeout))
end
"""
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Load:
    """Milliseconds; `failed` counts replies that are no success, and connections that broke."""

    requests_per_second: float
    p50: float
    p99: float
    failed: int
    requests: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def generator() -> str:
    return "wrk" if shutil.which("wrk") else "benchmarks/http_load.py"


def load(port: int, bodies: list[bytes], connections: int, seconds: float) -> Load:
    """Sends `POST /predict` to 127.0.0.1 for so long."""
    if shutil.which("wrk"):
        return _by_wrk(port, bodies, connections, seconds)
    return _by_ourselves(port, bodies, connections, seconds)


def _by_wrk(port: int, bodies: list[bytes], connections: int, seconds: float) -> Load:
    with tempfile.TemporaryDirectory() as folder:
        lines, script = Path(folder) / "bodies", Path(folder) / "post.lua"
        lines.write_bytes(b"\n".join(bodies) + b"\n")
        script.write_text(_SCRIPT % json.dumps(str(lines)))
        command = [
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{max(1, round(seconds))}s",
            "--timeout",
            "30s",
            "-s",
            str(script),
        ]
        done = subprocess.run([*command, f"http://127.0.0.1:{port}"], capture_output=True, text=True, check=True)
    found = re.search(r"^RESULT (.*)$", done.stdout, re.MULTILINE)
    if found is None:
        raise SystemExit(f"wrk gave no result:\n{done.stdout}{done.stderr}")
    requests, duration, p50, p99, failed = map(int, found[1].split())
    return Load(requests / duration * 1e6, p50 / 1e3, p99 / 1e3, failed, requests)


class _Client:
    """One connection: what it waits for, and since when."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reply = b""
        self.sent = 0.0

    def send(self, request: bytes) -> None:
        self.reply, self.sent = b"", time.perf_counter()
        self.socket.sendall(request)

    def receive(self) -> bool | None:
        """None while the reply is not whole, else whether it is a success."""
        chunk = self.socket.recv(1 << 16)
        if not chunk:
            raise ConnectionError
        self.reply += chunk
        head = self.reply.find(b"\r\n\r\n")
        found = _LENGTH.search(self.reply[: head + 2]) if head >= 0 else None
        if found is None or len(self.reply) < head + 4 + int(found[1]):
            return None
        return self.reply.startswith(b"HTTP/1.1 2")


def _by_ourselves(port: int, bodies: list[bytes], connections: int, seconds: float) -> Load:
    head = "POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"
    requests = [head.format(len(body)).encode() + body for body in bodies]
    times: list[float] = []
    failed = turn = 0
    began = time.perf_counter()
    with selectors.DefaultSelector() as selector:
        for _ in range(connections):
            _open(selector, port, requests[turn % len(requests)])
            turn += 1
        while time.perf_counter() - began < seconds:
            for key, _ in selector.select(timeout=1.0):
                client: _Client = key.data
                turn += 1
                try:
                    good = client.receive()
                    if good is None:
                        continue
                    times.append(time.perf_counter() - client.sent)
                    failed += not good
                    client.send(requests[turn % len(requests)])
                except OSError:
                    failed += 1
                    selector.unregister(client.socket)
                    client.socket.close()
                    _open(selector, port, requests[turn % len(requests)])
        for key in list(selector.get_map().values()):
            key.data.socket.close()
    took = time.perf_counter() - began
    times.sort()
    p50, p99 = (1e3 * times[int(share * (len(times) - 1))] if times else 0.0 for share in (0.5, 0.99))
    return Load(len(times) / took, p50, p99, failed, len(times))


def _open(selector: selectors.BaseSelector, port: int, request: bytes) -> None:
    client = _Client(port)
    selector.register(client.socket, selectors.EVENT_READ, client)
    client.send(request)
