"""Retraining on files that arrive: what is used, how often, by which policy, and what becomes of the files."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from config.settings import load_settings
from config.state_lock import StateLockedError, state_lock
from models.row_hash import held_out, row_hashes
from monitoring.data_files import DataFiles
from monitoring.run_records import RunRecords
from monitoring.store import Store
from pipeline.data_processing import conform
from pipeline.data_split import LazyRaw
from pipeline.errors import InputError
from pipeline.orchestrator import PipelineRun
from pipeline.retraining import Retraining, RetrainingOutcome, retrain_now
from tests.trained import FAST, TrainedState, bundle_in, configure, copy_of, in_force, served_version

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


@pytest.fixture
def home(penguins: TrainedState, tmp_path: Path) -> Path:
    """The first 250 penguins trained on; the others have not arrived."""
    home = copy_of(penguins, tmp_path)
    penguins.table.sample(frac=1, random_state=1).iloc[:250].to_csv(home / "base.csv", index=False)
    set_policy(home, "append")
    return home


def set_policy(home: Path, policy: str, **more: Any) -> None:
    data = {"source": str(home / "base.csv")}
    configure(home, FAST, {"target_column": "Species", "data": data, "retraining": {"policy": policy, **more}})


def deliver(home: Path, table: pd.DataFrame, name: str = "new.csv") -> Path:
    path = home / "data/incoming" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False)
    return path


@pytest.fixture
def late(penguins: TrainedState) -> pd.DataFrame:
    """The penguins that the base lacks."""
    return penguins.table.sample(frac=1, random_state=1).iloc[250:]


def retrain(home: Path) -> RetrainingOutcome:
    with in_force(home):
        return retrain_now()


def rows_of(home: Path, outcome: RetrainingOutcome) -> int | None:
    assert outcome.run is not None
    with in_force(home), Store(load_settings().store_address) as store:
        run = RunRecords(store).get(outcome.run.run_id)
    return run.rows if run else None


def archive(home: Path) -> list[str]:
    return sorted(path.name for path in (home / "data/processed").glob("*"))


def test_without_a_new_file_nothing_is_trained(home: Path) -> None:
    outcome = retrain(home)
    assert (outcome.status, outcome.run, outcome.files) == ("nothing_new", None, ())
    assert served_version(home) == "1"


def test_fault_08_append_trains_on_the_old_rows_and_the_new_ones(home: Path, late: pd.DataFrame) -> None:
    path = deliver(home, late)
    outcome = retrain(home)
    assert (outcome.status, outcome.policy, outcome.files) == ("succeeded", "append", ("new.csv",))
    assert rows_of(home, outcome) == 344
    assert not path.exists()
    assert archive(home) == list(outcome.archived)


def test_append_goes_on_from_what_was_archived(home: Path, late: pd.DataFrame) -> None:
    for position, name in ((0, "a.csv"), (40, "b.csv")):
        deliver(home, late.iloc[position : position + 40], name)
        outcome = retrain(home)
    assert rows_of(home, outcome) == 250 + 80


def test_fault_08_window_trains_on_the_newest_rows(home: Path, late: pd.DataFrame) -> None:
    set_policy(home, "window", window_rows=200)
    deliver(home, late)
    assert rows_of(home, retrain(home)) == 200


def test_fault_08_replace_trains_on_the_new_file_alone(home: Path, late: pd.DataFrame) -> None:
    set_policy(home, "replace")
    deliver(home, late)
    assert rows_of(home, retrain(home)) == 94


def test_fault_08_files_of_one_name_and_one_moment_never_overwrite_each_other(home: Path, late: pd.DataFrame) -> None:
    with in_force(home), Store(load_settings().store_address) as store:
        retraining = Retraining(load_settings(), DataFiles(store), lambda: NOON)
        for position in (0, 40):
            deliver(home, late.iloc[position : position + 40])
            new = retraining.new_files()
            retraining.table(new)
            retraining.archive(new, "run")
        records = DataFiles(store).all()
    assert len(archive(home)) == 2
    assert sorted(Path(record.path).name for record in records) == archive(home)
    assert [record.rows for record in records] == [40, 40]
    assert all(Path(record.path).is_file() for record in records)


def test_fault_08_a_failed_run_leaves_the_file_where_it_was(
    home: Path, late: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("power")

    path = deliver(home, late)
    with monkeypatch.context() as broken:
        broken.setattr(PipelineRun, "_finish", fail)
        with pytest.raises(RuntimeError, match="power"):
            retrain(home)
    assert path.exists()
    assert archive(home) == []
    assert rows_of(home, retrain(home)) == 344


def test_a_file_that_lacks_columns_is_refused_by_name_and_stays(home: Path, late: pd.DataFrame) -> None:
    path = deliver(home, late.drop(columns=["Sex", "Species"]))
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"new\.csv: lacks 'Species', 'Sex'"):
        retrain(home)
    assert path.read_bytes() == before
    assert served_version(home) == "1"


@pytest.mark.parametrize("content", [b"", b"\x00\x01\x02", b"only,a,header\n"])
def test_a_file_that_is_no_table_is_refused_by_name_and_stays(home: Path, content: bytes) -> None:
    path = home / "data/incoming/new.csv"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"new\.csv"):
        retrain(home)
    assert path.read_bytes() == content


def test_a_file_delivered_again_is_used_once(home: Path, late: pd.DataFrame) -> None:
    deliver(home, late)
    retrain(home)
    again = deliver(home, late, "the same.csv")
    assert retrain(home).status == "nothing_new"
    assert not again.exists()
    assert len(archive(home)) == 2  # it is kept all the same


def test_a_file_delivered_twice_at_once_is_used_once(home: Path, late: pd.DataFrame) -> None:
    deliver(home, late, "a.csv")
    deliver(home, late, "b.csv")
    assert rows_of(home, retrain(home)) == 344
    assert retrain(home).status == "nothing_new"
    assert not list((home / "data/incoming").iterdir())


def test_the_training_file_itself_is_not_new(home: Path) -> None:
    (home / "data/incoming").mkdir(parents=True)
    shutil.copy(home / "base.csv", home / "data/incoming/base.csv")
    assert retrain(home).status == "nothing_new"


def test_after_a_kill_between_record_and_move_the_file_goes_to_its_place(home: Path, late: pd.DataFrame) -> None:
    path = deliver(home, late)
    place = home / "data/processed/x.csv"
    with in_force(home), Store(load_settings().store_address) as store:
        retraining = Retraining(load_settings(), DataFiles(store), lambda: NOON)
        [file] = retraining.new_files()
        DataFiles(store).add(str(place), file.sha256, len(late), NOON, "run")
        assert retraining.new_files() == []
    assert place.is_file()
    assert not path.exists()


def test_a_file_that_grows_while_it_is_used_stays_for_the_next_time(home: Path, late: pd.DataFrame) -> None:
    with in_force(home), Store(load_settings().store_address) as store:
        retraining = Retraining(load_settings(), DataFiles(store), lambda: NOON)
        path = deliver(home, late.iloc[:40])
        new = retraining.new_files()
        retraining.table(new)
        deliver(home, late)
        assert retraining.archive(new, "run") == []
        assert [file.path for file in retraining.new_files()] == [path]


def test_what_is_still_being_written_is_not_looked_at(home: Path) -> None:
    for name in (".hidden.csv", "new.csv.part", "new.csv.tmp"):
        (home / "data/incoming").mkdir(parents=True, exist_ok=True)
        (home / "data/incoming" / name).write_text("half a ta")
    assert retrain(home).status == "nothing_new"


def test_the_newest_rows_are_told_by_the_time_column(home: Path, tmp_path: Path) -> None:
    """Dates as people write them do not sort as text."""
    base = "when,x\n01/02/2026,new\n15/01/2026,old\n,undated\n28/12/2025,oldest\n"
    (home / "base.csv").write_text(base)
    with in_force(home), Store(load_settings().store_address) as store:
        configure(home, {"data": {"source": str(home / "base.csv")}, "data_split": {"time_column": "when"},
                         "retraining": {"policy": "window", "window_rows": 2}})  # fmt: skip
        table = Retraining(load_settings(), DataFiles(store), lambda: NOON).table([])
    assert table.frame["x"].tolist() == ["old", "new"]


def test_what_was_text_stays_text_in_later_files(home: Path) -> None:
    (home / "base.csv").write_text("code,x\n007,1\nA1,2\n")
    with in_force(home), Store(load_settings().store_address) as store:
        retraining = Retraining(load_settings(), DataFiles(store), lambda: NOON)
        deliver(home, pd.DataFrame({"code": ["007", "008"], "x": [1, 2]}))
        table = retraining.table(retraining.new_files())
    assert table.frame["code"].tolist() == ["007", "A1", "007", "008"]


def test_rows_keep_their_side_over_a_retraining(home: Path, penguins: TrainedState, late: pd.DataFrame) -> None:
    """Nothing that the new version was tested on was trained on by the old one, and the other way round."""
    deliver(home, late)
    retrain(home)
    before, after = (bundle_in(home, version).manifest.split for version in ("1", "2"))
    assert (before.columns, before.key, before.test_size) == (after.columns, after.key, after.test_size)
    frame = conform(penguins.table, penguins.schema)
    features = [feature for feature in penguins.schema.features if feature.name in after.columns]
    mask = held_out(row_hashes(LazyRaw(frame, features), after.key), after.test_size)
    assert np.flatnonzero(mask).tolist() == sorted(penguins.prepared.test.rows)


def test_the_models_of_generated_files_give_way_together(sample: TrainedState, tmp_path: Path) -> None:
    """A retraining on the sample's new file is still the sample's."""
    home = copy_of(sample, tmp_path)
    (home / "data/incoming").mkdir()
    shutil.copy(home / "data/samples/new_data.csv", home / "data/incoming/monday.csv")
    configure(home, FAST, {"target_column": "target"})
    outcome = retrain(home)
    assert rows_of(home, outcome) == 10_000
    assert outcome.run is not None
    assert bundle_in(home, outcome.run.model_version).manifest.sample


def test_two_at_once_are_refused_by_name(home: Path) -> None:
    with (
        in_force(home),
        state_lock("pipeline", "main.py run"),
        pytest.raises(StateLockedError, match=r"`main\.py run`"),
    ):
        retrain_now()
