"""Whether one model can stand in for another, told from their schemas."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from models.schema import Feature, Ignored, Schema
from pipeline.model_comparison import fit_between

AGE = Feature(name="age", kind="numeric", range=(0.0, 9.0))
CITY = Feature(name="city", kind="categorical", categories=("Köln", "Ulm"))
CHAMPION = Schema(target="y", classes=("no", "yes"), features=(AGE, CITY))


def challenger(*features: Feature, **changes: Any) -> Schema:
    return msgspec.structs.replace(CHAMPION, **({"features": features} if features else {}), **changes)


def test_the_same_features_in_another_order_are_comparable() -> None:
    assert fit_between(CHAMPION, challenger(CITY, AGE, classes=("yes", "no"))).fit == "comparable"


def test_other_levels_and_ranges_are_comparable_as_unseen_values_are_answered() -> None:
    city = msgspec.structs.replace(CITY, categories=("Bonn",), nullable=True)
    age = msgspec.structs.replace(AGE, range=(-5.0, 2.0), integer=True)
    assert fit_between(CHAMPION, challenger(age, city)).fit == "comparable"


def test_a_feature_that_the_challenger_leaves_out_is_still_accepted() -> None:
    verdict = fit_between(CHAMPION, challenger(AGE, ignored=(Ignored(name="city", reason="constant"),)))
    assert (verdict.fit, verdict.reason) == ("comparable", "")


@pytest.mark.parametrize(
    ("features", "reason"),
    [
        ((AGE, CITY, Feature(name="new", kind="boolean")), "it needs 'new', which clients of the champion need not"),
        ((AGE,), "it refuses 'city', which clients of the champion send"),
        ((Feature(name="age", kind="datetime"), CITY), "it reads 'age' as dates, the champion as numbers"),
        ((AGE, Feature(name="city", kind="categorical", categories=(1, 2))), "it reads 'city' as whole numbers"),
        ((Feature(name="age", kind="numeric", required=True), CITY), "it refuses a null in 'age'"),
    ],
)
def test_a_challenger_that_refuses_what_the_champion_accepts_is_incompatible(
    features: tuple[Feature, ...], reason: str
) -> None:
    verdict = fit_between(CHAMPION, challenger(*features))
    assert (verdict.fit, verdict.reason[: len(reason)]) == ("incompatible", reason)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"target": "z"}, "it predicts 'z', the champion 'y'"),
        ({"classes": ("no", "maybe", "yes")}, "its classes are 'no', 'maybe', 'yes', not 'no', 'yes'"),
    ],
)
def test_another_question_is_not_comparable(changes: dict[str, Any], reason: str) -> None:
    verdict = fit_between(CHAMPION, challenger(**changes))
    assert (verdict.fit, verdict.reason) == ("not_comparable", reason)


def test_true_and_one_are_two_classes_to_a_client() -> None:
    """To Python they are equal."""
    numbers = challenger(classes=(0, 1))
    assert fit_between(numbers, challenger(classes=(False, True))).fit == "not_comparable"
    assert fit_between(numbers, numbers).fit == "comparable"


def test_long_lists_are_cut() -> None:
    verdict = fit_between(CHAMPION, challenger(classes=tuple(range(26))))
    assert verdict.reason == "its classes are 0, 1, 2, 3, 4 and 21 more, not 'no', 'yes'"
