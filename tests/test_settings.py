"""The settings: constraints at their edges, where they come from, and what is said when they are wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from config.home import PROJECT_ROOT, sqlite_url_under_home, state_home, under_home
from config.settings import ConfigurationError, Settings, configuration_path, decode_settings, load_settings

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
NAN, INFINITY = float("nan"), float("inf")

#: path, values at the inner edges, values just outside
EDGES: list[tuple[str, list[Any], list[Any]]] = [
    ("experiment_name", ["x", "x" * 250], ["", "x" * 251, 1, None]),
    ("registered_model_name", ["x"], ["", None]),
    ("mlflow_uri", ["http://localhost:1"], ["", 5]),
    ("target_column", ["class", "Größe (cm)"], ["", 2024, None]),
    ("data.source", ["a.csv"], ["", None]),
    ("data.query", [None, "select 1"], [1]),
    ("data.format", ["auto", "csv", "json", "jsonl", "parquet", "excel"], ["CSV", "xml", None]),
    ("data.delimiter", [None, ";", "\t"], ["", ";;"]),
    ("data.encoding", [None, "cp1252"], [8]),
    ("data.sheet", [None, "Sheet 1"], [0]),
    ("data.incoming", ["in"], [""]),
    ("data_split.test_size", [0.05, 0.9], [0.0499, 0.9001, 0, 1, NAN, INFINITY, "0.2", True]),
    ("data_split.random_state", [0, 2**32 - 1], [-1, 2**32, 1.5]),
    ("data_split.time_column", [None, "t"], ["", 1]),
    ("data_quality.missing_threshold", [0, 1, 0.5], [-0.01, 1.01, NAN]),
    ("data_quality.missing_policy", ["drop", "refuse"], ["warn", "Drop"]),
    ("data_quality.drift_threshold", [1e-9, 0.999], [0, 1, -1]),
    ("data_quality.duplicate_threshold", [0, 1], [-0.1, 1.1]),
    ("data_quality.leak_threshold", [0.5, 1.0], [0.49, 1.01]),
    ("data_quality.leak_policy", ["warn", "drop", "refuse"], ["keep"]),
    ("data_quality.minimum_rows", [20, 10**9], [19, 20.5]),
    ("data_quality.maximum_quarantined_share", [0, 1], [-0.1, 1.1]),
    ("features.drop", [[], ["a", "a b"]], ["a", [1], None]),
    ("features.categorical", [[]], ["a"]),
    ("features.numeric", [[]], ["a"]),
    ("features.datetime", [[]], ["a"]),
    ("features.required", [[]], ["a"]),
    ("features.use_time_column", [True, False], [1, "true"]),
    ("features.one_hot_limit", [2, 1000], [1, 1001]),
    ("training.candidates", [["logistic_regression"]], [[], ["svm"], "random_forest"]),
    ("training.parameters", [{}, {"random_forest": {"n_estimators": 5}}], [{"svm": {}}, {"random_forest": 5}, []]),
    ("training.search", [{"random_forest": {"max_depth": [4, None]}}], [{"random_forest": {"max_depth": 4}}]),
    ("training.search_iterations", [1], [0]),
    ("training.jobs", [-1, 1, 1024], [-2, 1025]),
    ("training.slow_candidate_rows", [1000], [999]),
    ("model_selection.metric", ["f1", "roc_auc", "brier"], ["auc", "F1"]),
    ("model_selection.cross_validation_folds", [2, 50], [1, 51, 2.5]),
    ("promotion.minimum_gain", [0, 1], [-0.001, 1.1]),
    ("promotion.confidence", [0.501, 0.999], [0.5, 1]),
    ("promotion.stale_after_days", [0.01, 1e6], [0, -1]),
    ("promotion.stale_margin", [0, 1], [-0.1]),
    ("promotion.bootstrap_samples", [200, 100_000], [199, 100_001]),
    ("retraining.policy", ["append", "window", "replace"], ["none"]),
    ("retraining.window_rows", [1], [0]),
    (
        "retraining.schedule",
        [f"{day} 02:00" for day in WEEKDAYS] + ["daily 00:00", "daily 23:59"],
        ["daily", "daily 24:00", "daily 2:00", "daily 02:60", "Sunday 02:00", "sunday  02:00", "sunday 02:00 x"],
    ),
    ("retraining.triggers", [[], ["schedule", "new_data", "drift", "degradation"]], [["never"], "drift"]),
    ("retraining.use_feedback", [True, False], [1, "yes"]),
    ("retraining.feedback_rows", [1], [0]),
    ("retraining.minimum_labelled_rows", [0, 500], [-1]),
    ("retraining.cool_down_hours", [0, 24.0, 8760], [-1, 8761]),
    ("retraining.minimum_expected_gain", [0, 1], [-0.1, 1.1]),
    ("monitoring.drift_detection_frequency", [0.001, 6, 8760], [0, 8761]),
    ("monitoring.performance_check_frequency", [0.001, 8760], [0, 8761]),
    ("monitoring.metrics_host", ["0.0.0.0", "::1"], [""]),
    ("monitoring.metrics_port", [None, 0, 1, 65535], [-1, 65536, 1.5]),
    ("monitoring.alert_thresholds.accuracy_drop", [0, 1], [-0.1, 1.1]),
    ("monitoring.alert_thresholds.drift_score", [0, 1], [-0.1, 1.1]),
    ("monitoring.alert_thresholds.error_rate", [0, 1], [-0.1, 1.1]),
    ("monitoring.alert_thresholds.latency_ms", [0.001, 1e9], [0, -1, NAN]),
    (
        "alerts.channels",
        [[], [{"name": "team", "url_env": "TEAM_URL", "minimum_severity": "low", "kinds": ["serving"]}]],
        [
            {},
            [{"name": "team"}],
            [{"name": "team", "url_env": "slack://token"}],
            [{"name": "team", "url_env": "MLOPS_TEAM"}],
            [{"name": "", "url_env": "A"}],
            [{"name": "team", "url_env": "A", "minimum_severity": "none"}],
            [{"name": "team", "url_env": "A", "kinds": ["drift"]}],
            [{"name": "team", "url_env": "A", "url": "slack://token"}],
        ],
    ),
    ("alerts.cool_down_hours", [0, 8760], [-1, 8761]),
    ("alerts.escalate_after_hours", [None, 0.1, 8760], [0, 8761]),
    ("alerts.escalations", [0, 100], [-1, 101, 1.5]),
    ("alerts.tell_resolved", [True, False], [1, "yes"]),
    ("alerts.attempts", [1, 100], [0, 101]),
    ("alerts.retry_seconds", [0.1, 86400], [0, 86401]),
    ("alerts.tolerated_outage_minutes", [0, 1440], [-1, 1441]),
    ("alerts.timeout_seconds", [0.1, 300], [0, 301]),
    ("deployment.model_serve_host", ["0.0.0.0", "::1"], [""]),
    ("deployment.model_serve_port", [1, 65535], [0, 65536, "5000"]),
    ("deployment.mlflow_port", [1, 65535], [0, 65536]),
    ("deployment.workers", [1, 256], [0, 257]),
    ("deployment.health_check_interval", [0.1, 86400], [0, 86401]),
    ("deployment.sync_interval", [0.1, 86400], [0, 86401]),
    ("deployment.max_prediction_batch_size", [1, 1_000_000], [0, 1_000_001]),
    ("deployment.max_request_bytes", [1024, 2**30], [1023, 2**30 + 1]),
    ("deployment.max_concurrent_requests", [1, 100_000], [0, 100_001, None]),
    ("deployment.requests_per_second", [None, 0.01, 1e6], [0, -1, 1_000_001, NAN, INFINITY]),
    ("deployment.open_without_keys", [True, False], ["yes"]),
    ("logging.level", ["DEBUG", "INFO", "WARNING", "ERROR"], ["debug", "CRITICAL"]),
    ("logging.access", ["off", "errors", "all"], ["none", True]),
    ("logging.fsync", [True, False], [0]),
    ("logging.fields", [{}, {"a b": "hash", "c": "drop", "d": "keep"}], [{"a": "encrypt"}, ["a"]]),
    ("logging.when_full", ["refuse", "serve"], ["ignore"]),
    ("logging.retention_days", [None, 1, 36_500], [0, 36_501, 1.5]),
    ("labels.window_days", [1, 3650], [0, 3651, 1.5, None]),
    ("store.url", ["sqlite:///x.db"], ["", None]),
]


def tree_with(path: str, value: Any) -> dict[str, Any]:
    head, _, rest = path.partition(".")
    return {head: tree_with(rest, value) if rest else value}


def value_at(settings: Settings, path: str) -> Any:
    node: Any = settings
    for key in path.split("."):
        node = getattr(node, key)
    return msgspec.to_builtins(node)


def cases(which: int) -> list[Any]:
    return [pytest.param(row[0], value, id=f"{row[0]}={value!r:.40}") for row in EDGES for value in row[which]]


def leaves(cls: type[msgspec.Struct] = Settings, prefix: str = "") -> list[str]:
    found = []
    for field in msgspec.structs.fields(cls):
        nested = isinstance(field.type, type) and issubclass(field.type, msgspec.Struct)
        found += leaves(field.type, f"{prefix}{field.name}.") if nested else [prefix + field.name]
    return found


def test_every_setting_is_tried_at_its_edges() -> None:
    assert sorted(leaves()) == sorted(path for path, _, _ in EDGES)


@pytest.mark.parametrize(("path", "value"), cases(1))
def test_a_value_at_the_edge_is_taken(path: str, value: Any) -> None:
    taken = value_at(decode_settings(tree_with(path, value)), path)
    assert msgspec.json.decode(msgspec.json.encode(taken)) == value


@pytest.mark.parametrize(("path", "value"), cases(2))
def test_a_value_over_the_edge_is_refused_with_its_path(path: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^here: \$\." + path.replace(".", r"\.")):
        decode_settings(tree_with(path, value), "here")


def test_two_channels_of_one_name_are_refused() -> None:
    channels = [{"name": "team", "url_env": "A"}, {"name": "team", "url_env": "B"}]
    with pytest.raises(ConfigurationError, match=r"\$\.alerts: expected one channel of each name.* named team$"):
        decode_settings({"alerts": {"channels": channels}})


def test_an_address_in_place_of_its_variable_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigurationError) as caught:
        decode_settings({"alerts": {"channels": [{"name": "team", "url_env": "slack://secret-token"}]}})
    assert "secret" not in str(caught.value)


def test_the_rule_is_named_after_the_path() -> None:
    with pytest.raises(ConfigurationError, match=r"\$\.data_split\.test_size: expected `float` <= 0\.9$"):
        decode_settings({"data_split": {"test_size": 1.0}})


@pytest.mark.parametrize(
    ("tree", "choice"),
    [
        ({"training": {"candidates": ["xgboost"]}}, r"\[0\]: invalid enum value 'xgboost'; expected .*random_forest"),
        ({"training": {"parameters": {"xgboost": {}}}}, "parameters: invalid enum value 'xgboost'; .*random_forest"),
        ({"model_selection": {"metric": "auc"}}, "metric: invalid enum value 'auc'; expected one of .*roc_auc"),
    ],
)
def test_a_word_that_is_none_of_the_choices_is_refused_with_them(tree: dict[str, Any], choice: str) -> None:
    with pytest.raises(ConfigurationError, match=choice):
        decode_settings(tree)


@pytest.mark.parametrize("path", ["unheard_of", "data_split.tset_size", "monitoring.alert_thresholds.drift"])
def test_fault_20_an_unknown_key_is_refused_with_its_path(path: str) -> None:
    with pytest.raises(ConfigurationError, match=r"\$\." + path.replace(".", r"\.") + ": unknown key"):
        decode_settings(tree_with(path, 1))


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Settings().target_column = "other"  # type: ignore[misc]


# Where settings come from.


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_the_environment_comes_before_the_file(tmp_path: Path) -> None:
    file = written(tmp_path / "c.yaml", "data_split: {test_size: 0.3, random_state: 7}")
    settings = load_settings(file, {"MLOPS_DATA_SPLIT__TEST_SIZE": "0.4"})
    assert (settings.data_split.test_size, settings.data_split.random_state) == (0.4, 7)


@pytest.mark.parametrize(
    ("variable", "text", "path", "value"),
    [
        ("MLOPS_TARGET_COLUMN", "2024", "target_column", "2024"),
        ("MLOPS_TARGET_COLUMN", "true", "target_column", "true"),
        ("MLOPS_TARGET_COLUMN", "größe: 1", "target_column", "größe: 1"),
        ("MLOPS_FEATURES__DROP", '["a", "b c"]', "features.drop", ("a", "b c")),
        ("MLOPS_TRAINING__CANDIDATES", '["random_forest"]', "training.candidates", ("random_forest",)),
        (
            "MLOPS_TRAINING__PARAMETERS",
            '{"random_forest": {"n_estimators": 9}}',
            "training.parameters",
            {"random_forest": {"n_estimators": 9}},
        ),
        ("MLOPS_FEATURES__USE_TIME_COLUMN", "true", "features.use_time_column", True),
        ("MLOPS_DATA_QUALITY__DRIFT_THRESHOLD", "1e-3", "data_quality.drift_threshold", 0.001),
        ("MLOPS_DATA__QUERY", "null", "data.query", None),
        ("MLOPS_DATA__DELIMITER", ";", "data.delimiter", ";"),
        ("MLOPS_RETRAINING__SCHEDULE", "daily 04:30", "retraining.schedule", "daily 04:30"),
        ("MLOPS_MONITORING__ALERT_THRESHOLDS__DRIFT_SCORE", "0.3", "monitoring.alert_thresholds.drift_score", 0.3),
    ],
)
def test_a_variable_means_what_its_setting_wants(
    tmp_path: Path, variable: str, text: str, path: str, value: object
) -> None:
    settings = load_settings(written(tmp_path / "c.yaml", "data: {query: select 1}"), {variable: text})
    assert value_at(settings, path) == value


@pytest.mark.parametrize(
    "variable",
    ["MLOPS_DATA_SPLTI__TEST_SIZE", "MLOPS_DATA", "MLOPS_UNHEARD_OF", "MLOPS_DATA_SPLIT__TSET_SIZE", "MLOPS_"],
)
def test_a_variable_that_names_no_setting_is_refused_by_name(tmp_path: Path, variable: str) -> None:
    with pytest.raises(ConfigurationError, match=variable):
        load_settings(written(tmp_path / "c.yaml", ""), {variable: "1"})


def test_a_variable_out_of_range_is_refused_with_path_and_variable(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"MLOPS_DEPLOYMENT__WORKERS: \$\.deployment\.workers: .* >= 1"):
        load_settings(written(tmp_path / "c.yaml", ""), {"MLOPS_DEPLOYMENT__WORKERS": "0"})


@pytest.mark.parametrize("variable", ["MLOPS_HOME", "MLOPS_CONFIG", "MLOPS_TEST_POSTGRES", "MLOPS_SOAK", "PATH"])
def test_variables_that_are_no_settings_are_let_be(tmp_path: Path, variable: str) -> None:
    assert load_settings(written(tmp_path / "c.yaml", ""), {variable: "x"}) == Settings()


def test_a_named_file_comes_before_the_state_roots_own(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert configuration_path() == PROJECT_ROOT / "config" / "pipeline_config.yaml"
    own = written(home / "pipeline_config.yaml", "target_column: own")
    assert (configuration_path(), load_settings().target_column) == (own, "own")
    named = written(home / "named.yaml", "target_column: named")
    monkeypatch.setenv("MLOPS_CONFIG", str(named))
    assert load_settings().target_column == "named"
    assert load_settings(own).target_column == "own"


def test_nothing_depends_on_the_working_directory(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    written(elsewhere / "pipeline_config.yaml", "target_column: not this one")
    monkeypatch.chdir(elsewhere)
    settings = load_settings()
    assert settings.target_column == "target"
    assert under_home("data/x.csv") == home / "data" / "x.csv"
    assert settings.store_address == f"sqlite:///{home}/mlops.db"


def test_without_a_state_root_of_its_own_the_project_is_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("", "  "):
        monkeypatch.setenv("MLOPS_HOME", value)
        assert state_home() == PROJECT_ROOT
    monkeypatch.delenv("MLOPS_HOME")
    assert state_home() == PROJECT_ROOT


@pytest.mark.parametrize(
    "url", ["sqlite:////var/x.db", "sqlite:///:memory:", "postgresql://h/db", "http://localhost:5001"]
)
def test_only_a_relative_sqlite_file_is_put_under_the_state_root(home: Path, url: str) -> None:
    assert sqlite_url_under_home(url) == url
    assert sqlite_url_under_home("sqlite:///a.db") == f"sqlite:///{home}/a.db"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"a: [1", "is not YAML"),
        (b"- 1", "expected a mapping"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"target_column: target\x00", "is not YAML"),
        (b"1: 2", "expected `str`"),
    ],
)
def test_a_file_that_is_no_configuration_is_named_with_the_reason(
    tmp_path: Path, content: bytes, complaint: str
) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=complaint) as caught:
        load_settings(path, {})
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no such file; .* init. writes one"):
        load_settings(tmp_path / "none.yaml", {})


@pytest.mark.parametrize("text", ["", "# only a comment\n", "\ufefftarget_column: target\n", "data: {}\n"])
def test_what_a_file_leaves_out_has_its_default(tmp_path: Path, text: str) -> None:
    assert load_settings(written(tmp_path / "c.yaml", text), {}) == Settings()
