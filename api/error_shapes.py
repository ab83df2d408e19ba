"""A problem in the words of another protocol.

Every refusal is made as a problem first (`api.errors`), whoever makes it: a route, the check of keys, Flask. Under a
protocol's own paths it is rewritten on its way out, so that its clients read the reason wherever it came from.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from flask import Response
from msgspec import Struct

from api.errors import PROBLEM_TYPE, Problem

#: Faults that stand in a sentence; the others are counted.
SHOWN_FAULTS = 5


def reshape(response: Response, shape: Callable[[Problem], Struct]) -> Response:
    """The response with its problem in another shape; one that holds no problem is left as it is."""
    if response.content_type == PROBLEM_TYPE:
        problem = msgspec.json.decode(response.get_data(), type=Problem)
        response.set_data(msgspec.json.encode(shape(problem)))
        response.content_type = "application/json"
    return response


def sentence(problem: Problem) -> str:
    """The detail and its first faults in one line, for shapes that have no list of faults."""
    faults = problem.errors or ()
    if not faults:
        return problem.detail
    shown = [f"{fault.path}: {fault.rule}, got {fault.got}" for fault in faults[:SHOWN_FAULTS]]
    if len(faults) > SHOWN_FAULTS:
        shown.append(f"and {len(faults) - SHOWN_FAULTS} more")
    return f"{problem.detail}: {'; '.join(shown)}"
