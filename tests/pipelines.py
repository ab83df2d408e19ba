"""Candidates from a table to class probabilities: the encoder in front of what training fits on the matrix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from sklearn.pipeline import Pipeline

from config.settings import Settings
from models.encoding import Encoder
from models.frame import frame_to_raw
from models.metrics import Labels
from models.schema import Schema
from pipeline.candidates import matrix_pipeline, whole_pipeline
from pipeline.model_training import CandidateResult, train_on_matrix
from pipeline.progress import Progress


def candidate_pipeline(name: str, schema: Schema, parameters: Mapping[str, Any], seed: int) -> Pipeline:
    """The whole unfitted pipeline of a candidate; raises as `matrix_pipeline`."""
    return whole_pipeline(matrix_pipeline(name, schema, parameters, seed), schema)


def train_candidates(
    frame: pd.DataFrame, y: Labels, schema: Schema, settings: Settings, progress: Progress | None = None
) -> list[CandidateResult]:
    """`train_on_matrix` of the rows of a table."""
    return train_on_matrix(Encoder(schema).encode(frame_to_raw(schema, frame)), y, schema, settings, progress)
