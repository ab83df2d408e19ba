"""Two hosts on one machine for tests: each a network namespace of its own, joined by a cable that can be cut.

Only root may lay one. Without root both hosts are this machine, which is enough for everything but a cut cable.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_CLONE_NEWNET = 0x40000000
#: Of a test network (RFC 2544); it exists inside the two namespaces and nowhere else.
_SERVERS, _STORES = "198.18.0.1", "198.18.0.2"


@dataclass(frozen=True)
class Host:
    """Where processes are started; `namespace` is None for this machine itself."""

    address: str
    namespace: str | None = None

    def command(self, *words: str) -> list[str]:
        return [*([] if self.namespace is None else ["nsenter", f"--net={_file(self.namespace)}"]), *words]

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Connections that the calling thread makes within the block start from this host."""
        if self.namespace is None:
            yield
            return
        with Path("/proc/thread-self/ns/net").open() as home, _file(self.namespace).open() as there:
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(home.fileno())


@dataclass(frozen=True)
class Network:
    """The host of the servers, and the host of the stores that they reach over the cable."""

    servers: Host
    stores: Host

    @property
    def has_cable(self) -> bool:
        return self.servers.namespace is not None

    def cut(self) -> None:
        """Takes the cable out at the servers' end: they are told at once that there is no way."""
        _ip(self.servers, "link", "set", "cable", "down")

    def swallow(self) -> None:
        """The far end drops whatever arrives and answers nothing: connections hang."""
        _ip(self.stores, "route", "add", "blackhole", f"{self.servers.address}/32")

    def mend(self) -> None:
        _ip(self.servers, "link", "set", "cable", "up")
        subprocess.run(
            self.stores.command("ip", "route", "del", "blackhole", f"{self.servers.address}/32"),
            check=False,
            capture_output=True,
        )


@contextmanager
def two_hosts() -> Iterator[Network]:
    """Two namespaces and their cable, gone afterwards; this machine twice for who is not root."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        yield Network(Host("127.0.0.1"), Host("127.0.0.1"))
        return
    name = f"mlops-{uuid.uuid4().hex[:8]}"
    servers, stores = Host(_SERVERS, f"{name}-a"), Host(_STORES, f"{name}-b")
    try:
        for host in (servers, stores):
            _run("ip", "netns", "add", str(host.namespace))
            _ip(host, "link", "set", "lo", "up")
        _ip(servers, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", str(stores.namespace))
        for host in (servers, stores):
            _ip(host, "address", "add", f"{host.address}/24", "dev", "cable")
            _ip(host, "link", "set", "cable", "up")
        yield Network(servers, stores)
    finally:
        for host in (servers, stores):
            subprocess.run(["ip", "netns", "delete", str(host.namespace)], check=False, capture_output=True)


def _file(namespace: str) -> Path:
    return Path("/run/netns") / namespace


def _enter(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "the network namespace cannot be entered")


def _ip(host: Host, *words: str) -> None:
    _run("ip", "-netns", str(host.namespace), *words)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=30)
