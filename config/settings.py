"""The configuration: one typed tree, decoded from YAML and the environment, refused as a whole when one key is wrong.

    ConfigurationError      a file that cannot be read, an unknown key, a value out of range

Defaults, units and ranges stand here and nowhere else; `config/pipeline_config.yaml` shows them to people.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, field

from config.alert_settings import AlertSettings
from config.errors import ProductError
from config.home import PROJECT_ROOT, sqlite_url_under_home, state_home, under_home
from config.section import Section

ENVIRONMENT_PREFIX = "MLOPS_"
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Probability = Annotated[float, Meta(gt=0.0, lt=1.0)]
Count = Annotated[int, Meta(ge=1)]
Hours = Annotated[float, Meta(gt=0.0, le=8760.0)]
Seconds = Annotated[float, Meta(gt=0.0, le=86400.0)]
Port = Annotated[int, Meta(ge=1, le=65535)]
Name = Annotated[str, Meta(min_length=1, max_length=250)]
#: A path or a URL, as long as a file system takes it.
Address = Annotated[str, Meta(min_length=1, max_length=4096)]
Metric = Literal[
    "accuracy",
    "balanced_accuracy",
    "precision",
    "recall",
    "f1",
    "f1_macro",
    "roc_auc",
    "pr_auc",
    "log_loss",
    "brier",
]
CandidateName = Literal["random_forest", "gradient_boosting", "hist_gradient_boosting", "logistic_regression"]


class ConfigurationError(ProductError):
    """The configuration cannot be used; the message names the key and the rule."""

    exit_code = 2


class DataSettings(Section, frozen=True):
    source: Address = "data/raw/training.csv"
    query: str | None = None
    format: Literal["auto", "csv", "json", "jsonl", "parquet", "excel"] = "auto"
    delimiter: Annotated[str, Meta(min_length=1, max_length=1)] | None = None
    encoding: str | None = None
    sheet: str | None = None
    incoming: Address = "data/incoming"


class DataSplitSettings(Section, frozen=True):
    test_size: Annotated[float, Meta(ge=0.05, le=0.9)] = 0.2
    random_state: Annotated[int, Meta(ge=0, le=2**32 - 1)] = 42
    time_column: Name | None = None


class DataQualitySettings(Section, frozen=True):
    missing_threshold: Share = 0.5
    missing_policy: Literal["drop", "refuse"] = "drop"
    drift_threshold: Probability = 0.01
    duplicate_threshold: Share = 0.2
    leak_threshold: Annotated[float, Meta(ge=0.5, le=1.0)] = 0.999
    leak_policy: Literal["warn", "drop", "refuse"] = "warn"
    minimum_rows: Annotated[int, Meta(ge=20)] = 50
    maximum_quarantined_share: Share = 0.5


class FeatureSettings(Section, frozen=True):
    drop: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    datetime: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    use_time_column: bool = False
    one_hot_limit: Annotated[int, Meta(ge=2, le=1000)] = 32


class TrainingSettings(Section, frozen=True):
    candidates: Annotated[tuple[CandidateName, ...], Meta(min_length=1)] = (
        "random_forest",
        "gradient_boosting",
        "hist_gradient_boosting",
        "logistic_regression",
    )
    parameters: dict[CandidateName, dict[str, Any]] = field(default_factory=dict)
    search: dict[CandidateName, dict[str, list[Any]]] = field(default_factory=dict)
    search_iterations: Count = 10
    jobs: Annotated[int, Meta(ge=-1, le=1024)] = -1
    slow_candidate_rows: Annotated[int, Meta(ge=1000)] = 50_000


class ModelSelectionSettings(Section, frozen=True):
    metric: Metric = "f1"
    cross_validation_folds: Annotated[int, Meta(ge=2, le=50)] = 5


class PromotionSettings(Section, frozen=True):
    minimum_gain: Share = 0.005
    confidence: Annotated[float, Meta(gt=0.5, lt=1.0)] = 0.95
    stale_after_days: Annotated[float, Meta(gt=0.0)] = 30.0
    stale_margin: Share = 0.01
    bootstrap_samples: Annotated[int, Meta(ge=200, le=100_000)] = 2000


class RetrainingSettings(Section, frozen=True):
    policy: Literal["append", "window", "replace"] = "append"
    window_rows: Count = 100_000
    schedule: Annotated[
        str,
        Meta(
            pattern=r"^(daily|monday|tuesday|wednesday|thursday|friday|saturday|sunday) ([01]\d|2[0-3]):[0-5]\d$",
            description="daily or a day of the week, and HH:MM",
        ),
    ] = "sunday 02:00"
    triggers: tuple[Literal["schedule", "new_data", "drift", "degradation"], ...] = (
        "schedule",
        "drift",
        "degradation",
    )
    use_feedback: bool = True
    feedback_rows: Count = 100_000
    minimum_labelled_rows: Annotated[int, Meta(ge=0)] = 500
    cool_down_hours: Annotated[float, Meta(ge=0.0, le=8760.0)] = 24.0
    minimum_expected_gain: Share = 0.005


class AlertThresholds(Section, frozen=True):
    accuracy_drop: Share = 0.05
    drift_score: Share = 0.1
    error_rate: Share = 0.05
    latency_ms: Annotated[float, Meta(gt=0.0, le=1e9)] = 500.0


class MonitoringSettings(Section, frozen=True):
    drift_detection_frequency: Hours = 6.0
    performance_check_frequency: Hours = 24.0
    metrics_host: Name = "127.0.0.1"
    metrics_port: Annotated[int, Meta(ge=0, le=65535)] | None = None
    alert_thresholds: AlertThresholds = field(default_factory=AlertThresholds)


class DeploymentSettings(Section, frozen=True):
    model_serve_host: Name = "127.0.0.1"
    model_serve_port: Port = 5000
    mlflow_port: Port = 5001
    workers: Annotated[int, Meta(ge=1, le=256)] = 2
    health_check_interval: Seconds = 30.0
    sync_interval: Seconds = 3.0
    max_prediction_batch_size: Annotated[int, Meta(ge=1, le=1_000_000)] = 1000
    max_request_bytes: Annotated[int, Meta(ge=1024, le=2**30)] = 16 * 2**20
    max_concurrent_requests: Annotated[int, Meta(ge=1, le=100_000)] = 64
    requests_per_second: Annotated[float, Meta(gt=0.0, le=1_000_000.0)] | None = None
    #: Answer on any address and host name although no key is set.
    open_without_keys: bool = False


class LoggingSettings(Section, frozen=True):
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    access: Literal["off", "errors", "all"] = "errors"
    fsync: bool = False
    fields: dict[str, Literal["keep", "hash", "drop"]] = field(default_factory=dict)
    when_full: Literal["refuse", "serve"] = "refuse"
    retention_days: Annotated[int, Meta(ge=1, le=36_500)] | None = None


class LabelSettings(Section, frozen=True):
    window_days: Annotated[int, Meta(ge=1, le=3_650)] = 30


class StoreSettings(Section, frozen=True):
    url: Address = "sqlite:///mlops.db"


class Settings(Section, frozen=True):
    experiment_name: Name = "tabular_production"
    registered_model_name: Name = "production_model"
    mlflow_uri: Address = "sqlite:///mlflow.db"
    target_column: Name = "target"
    data: DataSettings = field(default_factory=DataSettings)
    data_split: DataSplitSettings = field(default_factory=DataSplitSettings)
    data_quality: DataQualitySettings = field(default_factory=DataQualitySettings)
    features: FeatureSettings = field(default_factory=FeatureSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    model_selection: ModelSelectionSettings = field(default_factory=ModelSelectionSettings)
    promotion: PromotionSettings = field(default_factory=PromotionSettings)
    retraining: RetrainingSettings = field(default_factory=RetrainingSettings)
    monitoring: MonitoringSettings = field(default_factory=MonitoringSettings)
    alerts: AlertSettings = field(default_factory=AlertSettings)
    deployment: DeploymentSettings = field(default_factory=DeploymentSettings)
    logging: LoggingSettings = field(default_factory=LoggingSettings)
    labels: LabelSettings = field(default_factory=LabelSettings)
    store: StoreSettings = field(default_factory=StoreSettings)

    @property
    def mlflow_address(self) -> str:
        """The tracking URI, with a relative SQLite file anchored at the state root."""
        return sqlite_url_under_home(self.mlflow_uri)

    @property
    def store_address(self) -> str:
        """The store's URL, with a relative SQLite file anchored at the state root."""
        return sqlite_url_under_home(self.store.url)


def configuration_path() -> Path:
    """The file in force: `MLOPS_CONFIG`, else the state root's own, else the one that ships with the product."""
    named = os.environ.get("MLOPS_CONFIG", "").strip()
    if named:
        return Path(named).expanduser()
    own = state_home() / "pipeline_config.yaml"
    return own if own.is_file() else PROJECT_ROOT / "config" / "pipeline_config.yaml"


def load_settings(path: Path | None = None, environment: dict[str, str] | None = None) -> Settings:
    """Reads, overrides from the environment, checks.

    Raises:
        ConfigurationError: with the file and the path of the key (`$.data_split.test_size: expected …`).
    """
    source = path or configuration_path()
    tree = _read_yaml(source)
    overridden = _override(tree, dict(os.environ) if environment is None else environment)
    return decode_settings(tree, " with ".join([str(source), *overridden]))


def decode_settings(tree: dict[str, Any], source: str = "configuration") -> Settings:
    """Turns a plain tree into settings; raises `ConfigurationError` for the first key that breaks a rule."""
    try:
        return msgspec.convert(tree, Settings, strict=True)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{source}: {_path_first(str(error))}") from None


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ConfigurationError(f"{path}: there is no such file; `python main.py init` writes one") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path}: is not YAML: {' '.join(str(error).split())}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigurationError(f"{path}: expected a mapping of settings at the top")
    return tree


def _override(tree: dict[str, Any], environment: dict[str, str]) -> list[str]:
    """Applies `MLOPS_<SECTION>__<KEY>=value` and returns the variables used; lists and mappings are JSON."""
    sections = {name.upper(): name for name in Settings.__struct_fields__}
    applied = []
    for variable in sorted(environment):
        if not variable.startswith(ENVIRONMENT_PREFIX):
            continue
        head, *rest = variable.removeprefix(ENVIRONMENT_PREFIX).split("__")
        if head in ENVIRONMENT_NAMES and not rest:
            continue
        if head not in sections or (not rest and not _is_scalar(sections[head])):
            raise ConfigurationError(f"{variable}: names no setting; see docs/configuration.md")
        node, path = tree, [sections[head], *(part.lower() for part in rest)]
        for key in path[:-1]:
            node = node.setdefault(key, {})
            if not isinstance(node, dict):
                raise ConfigurationError(f"{variable}: {key} is no section")
        node[path[-1]] = _from_text(environment[variable], _annotation(path))
        applied.append(variable)
    return applied


def _from_text(text: str, annotation: Any) -> Any:
    """The value that a variable's text means for a setting of this type: `2024` is a name where a name is wanted.

    Text that does not fit comes back as YAML reads it, and is refused with its path when the tree is decoded.
    """
    import yaml

    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        value = text
    for reading in (value, text):
        with contextlib.suppress(msgspec.ValidationError):
            converted = msgspec.convert(reading, annotation, strict=not isinstance(reading, str))
            return msgspec.to_builtins(converted)
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _annotation(path: list[str]) -> Any:
    """The declared type of a setting; `Any` for one that does not exist."""
    annotation: Any = Settings
    for key in path:
        if not (isinstance(annotation, type) and issubclass(annotation, Section)):
            return Any
        annotation = {f.name: f.type for f in msgspec.structs.fields(annotation)}.get(key, Any)
    return annotation


# Variables of the product that are no settings of this tree.
ENVIRONMENT_NAMES = frozenset({"HOME", "CONFIG", "SOAK", "TEST_DATA", "TEST_POSTGRES", "LOG_HASH_KEY", "STORE_TARGET"})


def _is_scalar(section: str) -> bool:
    annotation = _annotation([section])
    return not (isinstance(annotation, type) and issubclass(annotation, Section))


def _path_first(message: str) -> str:
    """`Expected … - at `$.a.b`` becomes `$.a.b: expected …`, and an unknown key is named with its own path."""
    text, _, where = message.rpartition(" - at ")
    text = text or message
    path = where[where.find("$") :].strip("`") if "$" in where else "$"
    unknown = re.fullmatch(r"Object contains unknown field `(.*)`", text)
    if unknown:
        return f"{path}.{unknown[1]}: unknown key; docs/configuration.md lists every setting"
    return f"{path}: {text[:1].lower()}{text[1:]}{_choices(path) if text.startswith('Invalid enum') else ''}"


def _choices(path: str) -> str:
    from config.documentation import settings

    name = re.sub(r"\[.*?\]", "", path.removeprefix("$."))
    return next((f"; expected {setting.range}" for setting in settings() if setting.path == name), "")


def logs_directory() -> Path:
    return under_home("logs")


def registry_directory() -> Path:
    """Holds the bundles in use on this host and the serving plan."""
    return under_home("models/registry")
