"""Whether one model can stand in for another: the same question, and the same rows accepted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from models.schema import ClassLabel, Feature, Schema

#: `incompatible`: it refuses rows that the other accepts, so that clients of the one in service would be turned away;
#: `not_comparable`: it answers another question, with another target or other classes.
Fit = Literal["comparable", "incompatible", "not_comparable"]


class FitVerdict(Struct, frozen=True):
    fit: Fit
    #: A sentence that begins with 'it'; empty when comparable.
    reason: str


def fit_between(champion: Schema, challenger: Schema) -> FitVerdict:
    """Whether `challenger` answers what `champion` answers, for every row that `champion` accepts."""
    if challenger.target != champion.target:
        return FitVerdict("not_comparable", f"it predicts {challenger.target!r}, the champion {champion.target!r}")
    if _distinct(challenger.classes) != _distinct(champion.classes):
        return FitVerdict(
            "not_comparable", f"its classes are {_some(challenger.classes)}, not {_some(champion.classes)}"
        )
    for feature in challenger.features:
        refusal = _refusal(champion, feature)
        if refusal:
            return FitVerdict("incompatible", refusal)
    known = {*challenger.feature_names, *(column.name for column in challenger.ignored)}
    unknown = [name for name in champion.feature_names if name not in known]
    if unknown:
        return FitVerdict("incompatible", f"it refuses {_some(unknown)}, which clients of the champion send")
    return FitVerdict("comparable", "")


def _distinct(classes: Iterable[ClassLabel]) -> set[tuple[str, ClassLabel]]:
    """By type too: to Python `True` and `1` are one, to a client they are two."""
    return {(type(label).__name__, label) for label in classes}


def _refusal(champion: Schema, feature: Feature) -> str:
    """Why a row that the champion accepts can be refused for this feature; empty when it cannot."""
    before = next((known for known in champion.features if known.name == feature.name), None)
    if before is None:
        return f"it needs {feature.name!r}, which clients of the champion need not send"
    if _json_type(before) != _json_type(feature):
        return f"it reads {feature.name!r} as {_json_type(feature)}, the champion as {_json_type(before)}"
    if feature.required and not before.required:
        return f"it refuses a null in {feature.name!r}, which the champion accepts"
    return ""


def _json_type(feature: Feature) -> str:
    if feature.kind == "categorical":
        return "whole numbers" if feature.categories and isinstance(feature.categories[0], int) else "text"
    return {"numeric": "numbers", "boolean": "true or false", "datetime": "dates"}[feature.kind]


def _some(names: Iterable[object], limit: int = 5) -> str:
    listed = [repr(name) for name in names]
    return ", ".join(listed[:limit]) + (f" and {len(listed) - limit} more" if len(listed) > limit else "")
