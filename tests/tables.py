"""Tables for tests: a learnable one of any shape, and settings for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from config.settings import DataSettings, Settings, decode_settings
from pipeline.data_processing import Preparation, prepare, read_data
from pipeline.table_reading import Table, read_table


def small_table(rows: int = 200, seed: int = 0, **columns: Any) -> pd.DataFrame:
    """Two features, a target that follows them, and more `columns` (a list, or a function of the generator and n)."""
    generator = np.random.default_rng(seed)
    size = generator.normal(size=rows).round(4)
    colour = generator.choice(["red", "green", "blue"], rows)
    noise = generator.normal(size=rows) * 0.5
    frame = pd.DataFrame({"size": size, "colour": colour})
    for name, column in columns.items():
        frame[name] = column(generator, rows) if callable(column) else column
    frame["target"] = np.where(size + (colour == "red") + noise > 0.4, "yes", "no")
    return frame


def with_target(target: str = "target", **sections: Any) -> Settings:
    return decode_settings({"target_column": target, **sections})


def prepared(frame: pd.DataFrame, **sections: Any) -> Preparation:
    return prepare(Table(frame, "table.csv"), with_target(**sections))


def read_text(folder: Path, content: str | bytes, name: str = "table.csv", **data: Any) -> pd.DataFrame:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table(DataSettings(**data), path).frame


def prepared_file(path: Path, target: str, **sections: Any) -> Preparation:
    settings = with_target(target, **sections)
    return prepare(read_data(settings, path), settings)


def kinds_of(preparation: Preparation) -> dict[str, str]:
    """Kind of each column, or the code of the reason why it is left out."""
    return {column.name: column.kind or str(column.code) for column in preparation.columns}
