from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from config.settings import Settings, decode_settings
from models.metrics import METRICS, score
from pipeline.model_evaluation import GateDecision, compare_on_rows, first_decision, refused_decision
from pipeline.paired_bootstrap import Pair, resampled_gains

Rows = tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]
SETTABLE = [name for name in METRICS if name != "ece"]


def _settings(metric: str = "accuracy", **promotion: Any) -> Settings:
    promotion = {"bootstrap_samples": 400, **promotion}
    return decode_settings({"model_selection": {"metric": metric}, "promotion": promotion})


def _two_models(generator: np.random.Generator, rows: int, edge: float, classes: int = 2) -> Rows:
    """Softmax answers of two models that mostly share their noise; `edge` is how much more the challenger sees."""
    y = generator.integers(0, classes, rows)
    shared = generator.normal(size=(rows, classes))

    def answers(signal: float) -> NDArray[np.float64]:
        own = generator.normal(size=(rows, classes))
        raw = np.exp(signal * np.eye(classes)[y] + 0.95 * shared + 0.31 * own)
        return np.asarray(raw / raw.sum(axis=1, keepdims=True))

    return y, answers(2.0), answers(2.0 + edge)


def _certain(y: NDArray[np.int64], wrong: int, start: int = 0) -> NDArray[np.float64]:
    """Answers of 0.9 for the truth, and for the other class in `wrong` rows from `start` on."""
    classes = y.copy()
    classes[start : start + wrong] = 1 - classes[start : start + wrong]
    return np.where(np.eye(2)[classes] == 1, 0.9, 0.1)


Y = np.arange(1000) % 2


def test_fault_07_a_worse_model_is_kept_out() -> None:
    decision = compare_on_rows(_settings(), Y, _certain(Y, 100), _certain(Y, 160))
    assert decision.decision == "keep" and decision.difference == pytest.approx(-0.06)


def test_a_clearly_better_model_is_promoted_with_its_evidence() -> None:
    decision = compare_on_rows(_settings(), Y, _certain(Y, 160), _certain(Y, 100))
    assert decision.decision == "promote"
    assert (decision.champion_score, decision.challenger_score) == (0.84, 0.9)
    assert decision.interval is not None and decision.interval[0] < 0.06 < decision.interval[1]
    assert decision.probability_better == 1.0 and decision.rows == 1000


def test_equal_answers_are_kept() -> None:
    assert compare_on_rows(_settings(), Y, _certain(Y, 50), _certain(Y, 50)).decision == "keep"


def test_a_sure_gain_that_is_not_worth_a_change_is_kept() -> None:
    y = np.arange(20_000) % 2
    decision = compare_on_rows(_settings(), y, _certain(y, 1040), _certain(y, 1000))
    assert decision.probability_better == 1.0 and decision.decision == "keep"
    assert "0.005" in decision.reason


def test_a_gain_that_the_rows_cannot_tell_from_chance_is_undecided() -> None:
    y, champion, challenger = Y[:100], _certain(Y[:100], 12), _certain(Y[:100], 10, start=50)
    decision = compare_on_rows(_settings(), y, champion, challenger)
    assert decision.decision == "undecided" and "shadow run" in decision.reason
    assert decision.detectable_gain is not None and decision.detectable_gain > 0.02


def test_a_stale_champion_gives_way_to_a_model_that_is_not_much_worse() -> None:
    rows = Y, _certain(Y, 100), _certain(Y, 102)
    assert compare_on_rows(_settings(), *rows, champion_age_days=30.0).decision == "keep"
    stale = compare_on_rows(_settings(), *rows, champion_age_days=31.0)
    assert stale.decision == "promote" and "31 days old" in stale.reason


def test_a_stale_champion_does_not_give_way_to_a_model_that_is_worse() -> None:
    decision = compare_on_rows(_settings(), Y, _certain(Y, 100), _certain(Y, 130), champion_age_days=365.0)
    assert decision.decision == "keep"


@pytest.mark.parametrize("metric", SETTABLE)
def test_the_gain_points_upwards_whatever_the_metrics_direction(metric: str) -> None:
    rows = _two_models(np.random.default_rng(0), 1500, edge=1.5)
    decision = compare_on_rows(_settings(metric), *rows)
    assert decision.decision == "promote" and decision.difference is not None and decision.difference > 0


def test_without_rows_that_both_held_out_it_is_undecided() -> None:
    nothing = np.zeros((0, 2))
    decision = compare_on_rows(_settings(), np.zeros(0, dtype=np.int64), nothing, nothing)
    assert decision.decision == "undecided" and decision.rows == 0 and decision.difference is None


def test_rows_that_do_not_define_the_metric_are_undecided() -> None:
    y = np.zeros(50, dtype=np.int64)
    decision = compare_on_rows(_settings("roc_auc"), y, _certain(y, 5), _certain(y, 1))
    assert decision.decision == "undecided" and "do not define roc_auc" in decision.reason


def test_the_same_rows_decide_the_same_twice() -> None:
    rows = _two_models(np.random.default_rng(1), 300, edge=0.2)
    assert compare_on_rows(_settings("log_loss"), *rows) == compare_on_rows(_settings("log_loss"), *rows)


def test_a_decision_is_plain_json() -> None:
    decision = compare_on_rows(_settings("f1"), Y, _certain(Y, 120), _certain(Y, 100))
    assert msgspec.json.decode(msgspec.json.encode(decision), type=GateDecision) == decision


def test_first_and_refused_say_why() -> None:
    assert first_decision(_settings(), "nothing was in service").decision == "first"
    refused = refused_decision(_settings(), "not_comparable", "it predicts 'a', the champion 'b'", "7")
    assert refused.decision == "not_comparable" and "models promote 7 --force" in refused.reason


@pytest.mark.parametrize(("metric", "rows"), [("f1", 120), ("f1", 800), ("log_loss", 300), ("roc_auc", 250)])
def test_an_equal_model_is_promoted_in_about_one_run_of_twenty_at_most(metric: str, rows: int) -> None:
    """Simulated: 150 retrainings without any true gain; 5 in 100 plus three standard errors is the bound."""
    generator = np.random.default_rng(3)
    settings = _settings(metric, bootstrap_samples=200)
    decided = Counter(compare_on_rows(settings, *_two_models(generator, rows, 0.0)).decision for _ in range(150))
    assert decided["promote"] <= 150 * (0.05 + 3 * np.sqrt(0.05 * 0.95 / 150))


@pytest.mark.parametrize("metric", ["f1", "log_loss", "roc_auc"])
def test_a_better_model_is_usually_promoted(metric: str) -> None:
    generator = np.random.default_rng(4)
    settings = _settings(metric, bootstrap_samples=200)
    decided = Counter(compare_on_rows(settings, *_two_models(generator, 800, 0.6)).decision for _ in range(30))
    assert decided["promote"] >= 27


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("metric", SETTABLE)
def test_resampling_equals_drawing_the_rows_one_by_one(metric: str, classes: int) -> None:
    """The shortcuts of each family against the plain bootstrap: same centre, same spread."""
    y, champion, challenger = _two_models(np.random.default_rng(5), 200, 0.3, classes)
    ours = resampled_gains(METRICS[metric], Pair(y, champion, challenger), 2000, seed=0)
    generator = np.random.default_rng(6)
    plain = []
    for _ in range(500):
        rows = generator.integers(0, 200, 200)
        before, after = (score(metric, y[rows], model[rows]) for model in (champion, challenger))
        assert before is not None and after is not None
        plain.append(METRICS[metric].gain(before, after))
    assert np.mean(ours) == pytest.approx(np.mean(plain), abs=4 * np.std(plain) / np.sqrt(500))
    assert np.std(ours) == pytest.approx(np.std(plain), rel=0.15)


@pytest.mark.parametrize("metric", ["brier", "pr_auc"])
def test_bounded_work_on_many_rows_keeps_the_spread(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair(*_two_models(np.random.default_rng(7), 6000, 0.3))
    full = resampled_gains(METRICS[metric], pair, 300, seed=0)
    monkeypatch.setattr("pipeline.paired_bootstrap.BUDGET", 1)
    bounded = resampled_gains(METRICS[metric], pair, 300, seed=0)
    assert np.mean(bounded) == pytest.approx(np.mean(full), abs=float(np.std(full)) / 2)
    assert np.std(bounded) == pytest.approx(np.std(full), rel=0.25)
