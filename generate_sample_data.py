"""Writes sample data: customers of a phone company, and whether each left (`target`).

    raw/training.csv            8,000 customers to train on
    samples/new_data.csv        2,000 other customers of the same kind
    samples/drifted_data.csv    2,000 customers of whom some features have moved (`DRIFT`), and nothing else

All three follow one concept: `leaving_probability` depends on a row's features alone, and neither seed nor drift change
it. Each file draws its features, gaps, labels and extra columns from random streams of its own, so no file repeats rows
of another, and extra columns leave the others as they are. The same seed gives the same bytes.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from config.home import under_home
from config.settings import ConfigurationError, load_settings
from pipeline.sample_data import mark_as_sample

TRAINING, NEW, DRIFTED = "raw/training.csv", "samples/new_data.csv", "samples/drifted_data.csv"
FEATURES = (
    "age",
    "tenure_months",
    "monthly_charge",
    "usage_hours",
    "support_calls",
    "late_payments",
    "satisfaction",
    "contract",
    "region",
    "autopay",
)
CONTRACTS = ("month_to_month", "one_year", "two_year")
OTHER_REGIONS = ("centre", "east", "island", "north", "south", "south_east", "west")
OTHER_SHARES = (0.28, 0.16, 0.04, 0.14, 0.20, 0.07, 0.11)
CONTRACT_SHARES = (0.52, 0.27, 0.21)
#: Share of the values that are missing, independent of everything else.
GAPS = {"usage_hours": 0.06, "satisfaction": 0.12, "region": 0.02}
CHUNK_ROWS = 20_000

Column = NDArray[np.generic]
Table = dict[str, Column]


@dataclass(frozen=True)
class Population:
    """What may differ between two files: only the distribution of these features."""

    charge_shift: float = 0.0
    """Added to every monthly charge, in the currency's units (their standard deviation is about 22)."""
    support_calls_factor: float = 1.0
    """Multiplies the mean number of support calls."""
    north_west_share: float = 0.09
    """Share of customers in the north west; the other regions keep their proportions."""


STEADY = Population()
DRIFT = Population(charge_shift=15.0, support_calls_factor=1.8, north_west_share=0.25)


def features(rows: int, population: Population, random: np.random.Generator) -> Table:
    """Features without gaps, as customers have them."""
    contract = random.choice(3, size=rows, p=CONTRACT_SHARES)
    tenure = np.clip(random.gamma(1.4 + 0.7 * contract, 14.0), 0, 120)
    usage = np.clip(random.gamma(4.0, 9.0, rows), 0, 200)
    late = random.poisson(0.7, rows)
    satisfaction = np.clip(random.normal(6.6 - 0.35 * late, 1.9), 0, 10)
    elsewhere = random.choice(np.array(OTHER_REGIONS), size=rows, p=OTHER_SHARES)
    charge = 22 + 0.9 * usage + random.normal(0, 14, rows)
    return {
        "age": np.clip(random.normal(46, 16, rows), 18, 95).astype(np.int64),
        "tenure_months": tenure.astype(np.int64),
        "monthly_charge": np.round(np.maximum(charge, 8.0) + population.charge_shift, 2),
        "usage_hours": np.round(usage, 1),
        "support_calls": random.poisson(1.3 * population.support_calls_factor, rows),
        "late_payments": late,
        "satisfaction": np.round(satisfaction, 1),
        "contract": np.array(CONTRACTS)[contract],
        "region": np.where(random.random(rows) < population.north_west_share, "north_west", elsewhere),
        "autopay": random.random(rows) < 0.55,
    }


def leaving_probability(table: Table) -> NDArray[np.float64]:
    """The concept: the probability that a customer leaves, from the features alone."""
    number = {name: table[name].astype(np.float64) for name in FEATURES if name not in ("contract", "region")}
    per_hour = number["monthly_charge"] / (10.0 + number["usage_hours"])
    monthly = table["contract"] == "month_to_month"
    score = (
        -2.6
        + 1.7 * monthly
        - 1.0 * (table["contract"] == "two_year")
        - 0.035 * number["tenure_months"]
        + 2.0 * np.tanh((per_hour - 1.25) * 4.0)
        + 0.9 * np.minimum(number["support_calls"], 4) * monthly
        + 0.5 * number["late_payments"]
        - 1.7 * np.tanh((number["satisfaction"] - 5.5) * 0.8)
        - 0.8 * number["autopay"]
        + 0.9 * np.isin(table["region"], ("island", "north_west"))
        + 0.0016 * (number["age"] - 46.0) ** 2
    )
    return np.asarray(1.0 / (1.0 + np.exp(-score)), dtype=np.float64)


def sample(rows: int, columns: int, population: Population, seeds: np.random.SeedSequence) -> Table:
    """A whole file: features with gaps, extra columns that mean nothing, and `target` (0 or 1) last.

    `columns` counts all of them, the target too.
    """
    streams = [np.random.default_rng(child) for child in seeds.spawn(4)]
    table = features(rows, population, streams[0])
    target = (streams[1].random(rows) < leaving_probability(table)).astype(np.int64)
    for name, share in GAPS.items():
        text = table[name].astype(str)
        table[name] = np.where(streams[2].random(rows) < share, "", text)
    for number in range(1, columns - len(FEATURES)):
        table[f"extra_{number:02d}"] = np.round(streams[3].normal(0, 1, rows), 4)
    return table | {"target": target}


def samples(rows: int, columns: int, seed: int) -> Iterator[tuple[str, Table]]:
    """The three files, one after the other: path under the output folder, and table."""
    training, new, drifted = np.random.SeedSequence(seed).spawn(3)
    yield TRAINING, sample(rows, columns, STEADY, training)
    yield NEW, sample(max(1, rows // 4), columns, STEADY, new)
    yield DRIFTED, sample(max(1, rows // 4), columns, DRIFT, drifted)


def write_csv(table: Table, path: Path) -> None:
    """Whole or not at all: under a temporary name first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    rows = len(table["target"])
    with unfinished.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(table)
        for start in range(0, rows, CHUNK_ROWS):
            chunk = [column[start : start + CHUNK_ROWS].tolist() for column in table.values()]
            writer.writerows(zip(*chunk, strict=True))
            _progress(path, min(start + CHUNK_ROWS, rows), rows)
    unfinished.replace(path)


def is_needed() -> bool:
    """Whether the configuration asks for the sample's training file and it is not there."""
    data = load_settings().data
    return data.query is None and data.source == f"data/{TRAINING}" and not under_home(data.source).exists()


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        if options.if_needed and not is_needed():
            return 0
        return _write(options.output or under_home("data"), options)
    except ConfigurationError as error:
        return _refuse(str(error))
    except OSError as error:
        print(f"the sample data could not be written: {error}", file=sys.stderr)
        return 1


def _write(folder: Path, options: argparse.Namespace) -> int:
    if (folder / TRAINING).exists() and not options.force:
        return _refuse(f"{folder / TRAINING} exists and was left as it is; --force replaces it")
    for name, table in samples(options.rows, options.columns, options.seed):
        write_csv(table, folder / name)
        mark_as_sample(folder / name)
        print(f"{folder / name}: {len(table['target']):,} rows, {table['target'].mean():.1%} left")
    return 0


def _refuse(sentence: str) -> int:
    print(sentence, file=sys.stderr)
    return 2


def _progress(path: Path, done: int, rows: int) -> None:
    if rows > CHUNK_ROWS and sys.stderr.isatty():
        end = "\r" if done < rows else "\r\033[K"
        print(f"{path.name}: {done:,} of {rows:,} rows", end=end, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        epilog=(
            f"In drifted_data.csv monthly_charge is {DRIFT.charge_shift:g} higher, support_calls are "
            f"{DRIFT.support_calls_factor:g} times as many, and {DRIFT.north_west_share:.0%} of the customers live in "
            f"the north west ({STEADY.north_west_share:.0%} before); all else is as in training."
        ),
    )
    parser.add_argument("--rows", type=_at_least(1), default=8000, help="training rows (default 8000)")
    parser.add_argument("--seed", type=_at_least(0), default=42, help="seed of the random streams (default 42)")
    width = len(FEATURES) + 1
    text = f"columns with the target (default {width}); more than that are noise"
    parser.add_argument("--columns", type=_at_least(width), default=width, help=text)
    parser.add_argument("--output", type=Path, metavar="DIR", help="folder (default: data under MLOPS_HOME)")
    parser.add_argument("--force", action="store_true", help="replace training data that is there")
    parser.add_argument("--if-needed", action="store_true", help="do nothing when there is data to train on")
    return parser


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"expected {least} or more, got {value}")
        return value

    return number


if __name__ == "__main__":
    sys.exit(main())
