"""The gate in the loop: the new version against the champion, on the rows that both held out."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from config.settings import Settings
from models.bundle import Bundle, Manifest
from models.frame import frame_to_raw
from models.runtime import ModelRuntime
from pipeline.data_processing import conform, held_out_of_table
from pipeline.deployment import Deployment, DeploymentError
from pipeline.model_comparison import fit_between
from pipeline.model_evaluation import GateDecision, compare_on_rows, first_decision, refused_decision
from pipeline.registration import Registered
from pipeline.steps import Prepared


def compare(
    settings: Settings, deployment: Deployment, prepared: Prepared, registered: Registered, now: datetime
) -> GateDecision:
    """Whether the new version takes the place of the champion, and why."""
    champion = deployment.registry.champion()
    if champion is None:
        return first_decision(settings, "nothing was in service")
    try:
        bundle = deployment.bundle(champion)
    except DeploymentError as error:
        return first_decision(settings, f"the champion, version {champion}, cannot be served: {error}")
    verdict = fit_between(bundle.schema, prepared.schema)
    if verdict.fit == "comparable":
        return _compare_with(bundle, settings, prepared, registered, now)
    if bundle.manifest.sample and not registered.manifest.sample:
        return first_decision(settings, "the champion was trained on the generated sample")
    return refused_decision(settings, verdict.fit, verdict.reason, registered.version)


def _compare_with(
    bundle: Bundle, settings: Settings, prepared: Prepared, registered: Registered, now: datetime
) -> GateDecision:
    rows = _rows_both_held_out(bundle, prepared)
    return compare_on_rows(
        settings,
        prepared.test.target[rows],
        _champion_answers(bundle, prepared, rows),
        registered.packaged.test_probabilities[rows],
        champion_age_days=_age_days(bundle.manifest, now),
    )


def _rows_both_held_out(bundle: Bundle, prepared: Prepared) -> NDArray[np.intp]:
    """Positions in the test part of the rows that the champion held out too; none where that cannot be told."""
    table = prepared.test_table
    mask = held_out_of_table(bundle.manifest.split, table, np.arange(len(table.frame)), bundle.schema)
    return np.empty(0, dtype=np.intp) if mask is None else np.flatnonzero(mask)


def _champion_answers(bundle: Bundle, prepared: Prepared, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """The champion's probabilities on some of the test rows, its classes in the challenger's order."""
    runtime = ModelRuntime(bundle)
    given = prepared.test_table.frame.take(rows)
    frame: pd.DataFrame = conform(given, bundle.schema, prepared.source)
    answers = runtime.probabilities(runtime.encoder.encode(frame_to_raw(bundle.schema, frame)))
    order = [bundle.schema.classes.index(label) for label in prepared.schema.classes]
    return answers[:, order].astype(np.float64)


def _age_days(manifest: Manifest, now: datetime) -> float:
    made = datetime.fromisoformat(manifest.created_at)
    return (now - made).total_seconds() / 86_400.0
