"""`init`: a commented configuration for somebody's own table."""

from __future__ import annotations

from pathlib import Path

from config.home import state_home
from config.settings import DataSettings, Settings, load_settings


def write_initial_configuration(data: str, target: str, query: str | None) -> Path:
    """Writes `pipeline_config.yaml` under the state root, unless it is there for this very table already.

    Raises:
        InputError: there is a configuration for something else, or the table cannot be used.
    """
    from pipeline.configuration_writer import write_configuration
    from pipeline.table_reading import read_table

    path = state_home() / "pipeline_config.yaml"
    if _is_for(path, data, target, query):
        return path
    settings = Settings(data=DataSettings(source=data, query=query))
    write_configuration(read_table(settings.data, data), target, path, data, settings)
    return path


def _is_for(path: Path, data: str, target: str, query: str | None) -> bool:
    """Whether there is a configuration for this very table already, so that `init` may be repeated."""
    if not path.is_file():
        return False
    known = load_settings(path)
    return (known.data.source, known.data.query, known.target_column) == (data, query, target)
