"""The loop, end to end, on every table."""
from __future__ import annotations
import pytest
from tests.trained import TrainedState, served_version

def test_x(credit, penguins, elec2, sample):
    for s in (credit, penguins, elec2, sample):
        print(s.target, s.outcome.duration_seconds, s.outcome.cross_validation["candidates"])
        print(s.schema)
        print(s.outcome.left_aside)
