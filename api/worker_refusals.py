"""What the server's worker refuses before the application sees it: answered, counted and logged like the rest."""

from __future__ import annotations

import logging
from collections.abc import Callable

from msgspec import UNSET

from api.access_log import AccessLine
from api.auth import UNMATCHED
from api.errors import RefusedError, answer_to
from api.metrics import REQUESTS
from api.requests import request_id_from
from api.routes import Services
from config.request_framing import Refused

logger = logging.getLogger(__name__)


def refuser(core: Services) -> Callable[[Refused, str, str, BaseException | None], bytes]:
    """What `config.gunicorn_worker` calls for the last reply on a connection.

    Such a request has no route, and no time: it counts under `unmatched` by its code, and by its problem.
    """

    def refuse(refusal: Refused, given_id: str, remote: str, error: BaseException | None) -> bytes:
        request_id = request_id_from(given_id)
        if error is None:
            logger.info("a request was refused: %s", refusal.name, extra={"request_id": request_id})
        else:
            logger.error("a request failed", exc_info=error, extra={"request_id": request_id})
        answer = answer_to(RefusedError(refusal.status, refusal.name, refusal.detail), request_id)
        core.metrics.count(REQUESTS, UNMATCHED, str(answer.status))
        core.metrics.problem(refusal.name, None, None)
        if core.access.wants(answer.status):
            core.access.note(_line(core, answer.status, refusal.name, request_id, remote))
        headers, body = answer.rendered()
        head = [f"HTTP/1.1 {answer.status} {answer.problem.title}", "Connection: close"]
        head += [f"{name}: {value}" for name, value in headers]
        return "\r\n".join([*head, "", ""]).encode("latin-1") + body

    return refuse


def _line(core: Services, status: int, name: str, request_id: str, remote: str) -> AccessLine:
    return AccessLine(
        timestamp=core.server.now(),
        request_id=request_id,
        remote=remote,
        method="",
        path="",
        status=status,
        milliseconds=0.0,
        problem=name or UNSET,
    )
