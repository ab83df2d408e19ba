"""Each kind of finding measures something, and says it as one number beside the detection."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from monitoring.concept_drift import ConceptDrift, concept_drift_finding
from monitoring.cycle import run_cycle
from monitoring.detections import Detection, Detections
from monitoring.drift_report import DriftThresholds
from monitoring.live_quality import fragment_findings, quality_findings
from monitoring.store import Store
from monitoring.window_records import Window
from tests.logged import NOON
from tests.test_live_quality import REFERENCE
from tests.traffic import drifted_rows, serve
from tests.trained import TrainedState, copy_of, in_force


def test_drift_is_its_mean_effect(sample: TrainedState, tmp_path: Path) -> None:
    from config.settings import load_settings
    from pipeline.log_jobs import ingestion_of

    home = copy_of(sample, tmp_path)
    with in_force(home), Store(load_settings().store_address) as store:
        serve(home, sample, drifted_rows(sample), NOON)
        at = NOON + timedelta(minutes=1)
        ingestion_of(load_settings(), store, lambda: at).run_once()
        report = run_cycle(load_settings(), store, at).drift
        found: dict[str, Detection] = {one.kind: one for one in Detections(store).latest()}
    assert report is not None and report.prediction_drift is not None
    assert found["data_drift"].score == report.drift_score
    assert found["prediction_drift"].score == report.prediction_drift.drift_score


def test_data_quality_is_a_share() -> None:
    seen = Window(profile=None, rows=1_000, unprofiled_rows=50, withheld=frozenset(), warnings={"missing": 400})
    scores = [one.score for one in quality_findings("1", seen, REFERENCE, DriftThresholds())]
    assert scores == [0.4, 0.05]
    assert [one.score for one in fragment_findings(75, 25)] == [0.25]


def test_concept_drift_is_the_drop() -> None:
    values = dict.fromkeys(ConceptDrift.__struct_fields__)
    drift = ConceptDrift(**values | {"status": "drift", "drop": 0.07, "model_version": "1", "words": "it is so."})  # type: ignore[arg-type]
    found = concept_drift_finding(drift)
    assert found is not None and found.score == pytest.approx(0.07)
    assert concept_drift_finding(msgspec.structs.replace(drift, status="none")) is None
