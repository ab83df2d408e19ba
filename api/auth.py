"""Who is answered: keys and scopes where keys are set, else this machine alone.

Without keys the server answers only to requests that come from this machine and name it (a web page that rebinds its
own name to 127.0.0.1 does not), and to no control route; `deployment.open_without_keys` lifts the first of these.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

from api.errors import RefusedError
from api.keys import LONGEST_KEY, KeyRing, Scope, keys_path
from api.limits import RateLimit
from config.settings import Settings

LOCAL_NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})
LOCAL_ADDRESSES = frozenset({"127.0.0.1", "::1", "::ffff:127.0.0.1", ""})  # a Unix socket has none
LOOPBACK = ("127.0.0.1", "localhost", "::1")
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]]+)(:[0-9]*)?", re.IGNORECASE)
_KNOWN_HOSTS = 64

#: Under which requests are counted that no route takes.
UNMATCHED = "unmatched"
#: What each route asks of a key, by Flask's rule; None is open to all. A route that stands not here asks for `admin`.
ROUTE_SCOPES: dict[str, Scope | None] = {
    UNMATCHED: None,
    "/predict": "predict",
    "/feedback": "feedback",
    "/health": None,
    "/ready": None,
    "/model_info": "read",
    "/metrics": "read",
    "/openapi.json": "read",
    "/docs": None,  # an empty page: what it shows it asks for, with a key where there are keys
    "/docs/files/<path:filename>": None,
    "/invocations": "predict",
    "/ping": None,
    "/version": None,
    "/v2": "read",
    "/v2/health/live": None,
    "/v2/health/ready": None,
    "/v2/models/<name>": "read",
    "/v2/models/<name>/ready": None,
    "/v2/models/<name>/infer": "predict",
    "/v2/models/<name>/versions/<version>": "read",
    "/v2/models/<name>/versions/<version>/ready": None,
    "/v2/models/<name>/versions/<version>/infer": "predict",
}

logger = logging.getLogger(__name__)


class Admission:
    """Decides on each request before anything of its body is read. Safe to share between threads."""

    def __init__(self, settings: Settings, keys: KeyRing | None = None, rate: RateLimit | None = None) -> None:
        deployment = settings.deployment
        self.keys = keys or KeyRing(keys_path())
        self.rate = rate or (RateLimit(deployment.requests_per_second) if deployment.requests_per_second else None)
        self._open = deployment.open_without_keys
        self._bound_here = deployment.model_serve_host in LOOPBACK
        self._local_hosts: set[str] = set()
        self._noted: str | None = None

    def attach(self, directory: Path | None = None) -> None:
        """Shares the rate limit with the other workers: once in each process, after the fork."""
        if self.rate is not None:
            self.rate.attach(directory)

    def admit(self, scope: Scope | None, authorization: str, host: str, remote: str = "") -> RefusedError | None:
        """None for a request that may go on, else the refusal to answer.

        `authorization` and `host` are the headers as they came, empty when absent; `remote` the client's address.
        """
        keys = self.keys.keys()
        if self.keys.problem is not self._noted:
            self._note(self.keys.problem)
        if not keys:
            refusal = self._without_keys(scope, host, remote)
            client = remote
        elif scope is None:
            refusal, client = None, remote
        else:
            refusal, client = self._with_keys(scope, authorization)
        if refusal is None and self.rate is not None and scope is not None:
            refusal = self._in_rate(client)
        return refusal

    def _without_keys(self, scope: Scope | None, host: str, remote: str) -> RefusedError | None:
        if self.keys.problem is not None:
            return RefusedError(503, "keys-unreadable", "the server's keys cannot be read", {"Retry-After": "10"})
        if scope == "admin":
            return RefusedError(403, "no-keys", "control routes need a key: python main.py keys create")
        if self._open:
            return None
        if not self._bound_here:
            return RefusedError(403, "no-keys", "no key is set, and without one nobody is answered here")
        if remote not in LOCAL_ADDRESSES:
            return RefusedError(403, "foreign-address", "without keys the server answers to this machine alone")
        if host not in self._local_hosts and not self._is_local(host):
            return RefusedError(403, "foreign-host", "without keys the server answers to localhost and 127.0.0.1 alone")
        return None

    def _with_keys(self, scope: Scope, authorization: str) -> tuple[RefusedError | None, str]:
        kind, _, text = authorization.partition(" ")
        challenge = {"WWW-Authenticate": "Bearer"}
        if kind.lower() != "bearer" or not text:
            return RefusedError(401, "no-key", "send Authorization: Bearer with a key of this server", challenge), ""
        key = self.keys.find(text.strip()) if len(text) <= LONGEST_KEY else None
        if key is None:
            challenge = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
            return RefusedError(401, "wrong-key", "the key is none of this server, or was revoked", challenge), ""
        if not key.allows(scope):
            return RefusedError(403, "scope", f"the key has no scope {scope}"), ""
        return None, key.name

    def _in_rate(self, client: str) -> RefusedError | None:
        assert self.rate is not None  # noqa: S101 - narrows the type
        wait = self.rate.take(client)
        if not wait:
            return None
        headers = {"Retry-After": str(max(1, round(wait + 0.5)))}
        return RefusedError(429, "rate", "this client asks more often than deployment.requests_per_second", headers)

    def _is_local(self, host: str) -> bool:
        found = _HOST.fullmatch(host)
        if found is None or found[1].lower() not in LOCAL_NAMES:
            return False
        if len(self._local_hosts) < _KNOWN_HOSTS:
            self._local_hosts.add(host)
        return True

    def _note(self, problem: str | None) -> None:
        """Tells the log once when the file of keys breaks, and once when it is mended."""
        self._noted = problem
        if problem is None:
            logger.info("the keys are in force again")
        else:
            logger.error("%s", problem)
