"""`init`: a commented configuration for somebody's own table."""

from __future__ import annotations

from pathlib import Path

from config.home import state_home
from config.settings import DataSettings


def write_initial_configuration(data: str, target: str, query: str | None) -> Path:
    """Writes `pipeline_config.yaml` under the state root; raises `InputError` when there is one, or the table is bad."""
    from pipeline.configuration_writer import write_configuration
    from pipeline.table_reading import read_table

    table = read_table(DataSettings(source=data, query=query), data)
    path = state_home() / "pipeline_config.yaml"
    write_configuration(table, target, path, data)
    return path
