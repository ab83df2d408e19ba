"""Reading: any delimiter, encoding and format; one sentence for what is no table; the source is never changed."""

from __future__ import annotations

import gzip
import sqlite3
from pathlib import Path

import fsspec
import pandas as pd
import pytest

from config.settings import DataSettings
from pipeline.errors import InputError
from pipeline.table_reading import read_table
from tests.tables import read_text, small_table

ROWS = [["Zürich", 1.5], ["Łódź, PL", 2.25]]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(tmp_path: Path, delimiter: str) -> None:
    frame = read_text(tmp_path, f"city{delimiter}size\na{delimiter}1.5\nb{delimiter}2\n")
    assert frame.to_dict("list") == {"city": ["a", "b"], "size": [1.5, 2.0]}


def test_a_configured_delimiter_goes_before_the_likely_one(tmp_path: Path) -> None:
    frame = read_text(tmp_path, "a,b^c\n1,5^x\n", delimiter="^")
    assert list(frame.columns) == ["a,b", "c"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_unicode_encodings_are_found(tmp_path: Path, encoding: str) -> None:
    text = "städt,size\n" + "Zürich,1.5\nOslo,2\n" * 20
    frame = read_text(tmp_path, text.encode(encoding))
    assert frame.columns[0] == "städt"
    assert frame.iloc[0, 0] == "Zürich"


@pytest.mark.parametrize(("encoding", "text"), [("cp1252", "5 €"), ("latin-1", "\x81é")])
def test_one_byte_encodings_are_found(tmp_path: Path, encoding: str, text: str) -> None:
    assert read_text(tmp_path, f"a,b\n{text},1\n".encode(encoding)).iloc[0, 0] == text


def test_a_configured_encoding_that_does_not_fit_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"table\.csv: is not text in the encoding 'ascii'; set data\.encoding"):
        read_text(tmp_path, "a,b\né,1\n", encoding="ascii")
    with pytest.raises(InputError, match="'utf-99' is no known encoding"):
        read_text(tmp_path, "a,b\né,1\n", encoding="utf-99")


def test_quoted_fields_hold_delimiters_quotes_and_line_breaks(tmp_path: Path) -> None:
    frame = read_text(tmp_path, 'a,b\r\n"x, ""y""\nz",1\r\n')
    assert frame.to_dict("list") == {"a": ['x, "y"\nz'], "b": [1]}


def test_a_decimal_comma_is_a_decimal_comma_where_the_delimiter_is_another(tmp_path: Path) -> None:
    assert read_text(tmp_path, "a;b\n1,5;x\n-2,25;y\n")["a"].tolist() == [1.5, -2.25]
    assert read_text(tmp_path, "a\tb\n1,250\tx\n2,500\ty\n")["a"].tolist() == ["1,250", "2,500"]


def test_missing_is_an_empty_field_or_an_unquoted_word_and_the_level_none_stays(tmp_path: Path) -> None:
    frame = read_text(tmp_path, 'a,b\nNA,1\n"NA",2\n,3\nNone,4\n?,5\n')
    assert frame["a"].isna().tolist() == [True, False, True, False, False]
    assert frame["a"].tolist()[3:] == ["None", "?"]


def test_numbers_with_leading_zeros_stay_text(tmp_path: Path) -> None:
    assert read_text(tmp_path, "zip,n\n01234,1\n99999,2\n")["zip"].tolist() == ["01234", "99999"]


def test_times_of_day_keep_their_spelling(tmp_path: Path) -> None:
    assert read_text(tmp_path, "at,n\n12:30,1\n07:05,2\n")["at"].tolist() == ["12:30", "07:05"]


@pytest.mark.parametrize(("late", "first"), [("1.5", 1.0), ("x", "1")])
def test_a_value_that_breaks_the_type_late_changes_the_whole_column(tmp_path: Path, late: str, first: object) -> None:
    frame = read_text(tmp_path, "a,b\n" + "1,some text\n" * 600_000 + f"{late},y\n")
    assert frame["a"].iloc[0] == first
    assert type(frame["a"].iloc[0]) is type(frame["a"].iloc[-1])


def test_named_columns_can_be_kept_as_text(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("code,n\n1.50,1\ntrue,2\n")
    assert read_table(DataSettings(), path, {"code"}).frame["code"].tolist() == ["1.50", "true"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "the file is empty"),
        (b"\n \n", "the file is empty"),
        (b"a,b\n", "has a header and no rows"),
        (b"a,b\n1,2\n3\n", "line 3 has 1 fields where the header has 2"),
        (b'a,b\n"x\ny",2\n3,4,5\n', "line 4 has 3 fields where the header has 2"),
        (b"a,b,a \n1,2,3\n", "several columns are called 'a'"),
        (bytes(range(256)) * 50, "is a binary file, not a table"),
        (b"Dear all,\n\nhere, as promised, a letter\n", "line 3 has 3 fields"),
    ],
)
def test_what_is_no_table_is_refused_in_one_sentence_and_left_as_it_was(
    tmp_path: Path, content: bytes, sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        read_text(tmp_path, content)
    assert str(tmp_path / "table.csv") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "table.csv").read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("t.json", b'{"a": 1', r"line 1 is not valid JSON \(.*\); mend it"),
        ("t.json", b"[1, 2]", "expected an array of objects"),
        ("t.jsonl", b'{"a": 1}\n{"a":\n', "line 2 is not valid JSON"),
        ("t.parquet", b"PAR1 and no more", r"is no readable Parquet file \(.*[^.]\); write it again"),
        ("t.xlsx", b"PK and no more", "is no readable Excel file"),
        ("t.xlsx", b"hello", r"Excel file \(its content is another format\); save it again as .xlsx$"),
        ("t.csv.gz", b"not gzip", "cannot be read"),
    ],
)
def test_a_broken_file_of_another_format_is_refused_too(
    tmp_path: Path, name: str, content: bytes, sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        read_text(tmp_path, content, name)


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        read_table(DataSettings(), tmp_path / "none.csv")
    with pytest.raises(InputError, match="is not a file"):
        read_table(DataSettings(), tmp_path)


def test_every_format_gives_the_same_table(tmp_path: Path) -> None:
    frame = small_table(30, flag=[True, False] * 15)
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_csv(tmp_path / "t.csv.gz", index=False)
    frame.to_json(tmp_path / "t.json", orient="records")
    frame.to_json(tmp_path / "t.jsonl", orient="records", lines=True)
    frame.set_index(frame.index + 7).to_parquet(tmp_path / "t.parquet")
    frame.to_excel(tmp_path / "t.xlsx", index=False)
    for name in ("t.csv", "t.csv.gz", "t.json", "t.jsonl", "t.parquet", "t.xlsx"):
        read = read_table(DataSettings(), tmp_path / name).frame
        assert read.astype(object).equals(frame.astype(object)), name


def test_json_lines_with_other_fields_make_gaps(tmp_path: Path) -> None:
    frame = read_text(tmp_path, '\ufeff{"a": 1, "b": "x"}\n\n{"a": 2, "c": [1]}\n', "t.jsonl")
    assert list(frame.columns) == ["a", "b", "c"]
    assert frame.isna().sum().to_dict() == {"a": 0, "b": 1, "c": 1}


def test_a_sheet_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    small_table(5).to_excel(tmp_path / "t.xlsx", sheet_name="May", index=False)
    with pytest.raises(InputError, match=r"has no sheet 'June'; data\.sheet can be one of: May"):
        read_table(DataSettings(sheet="June"), tmp_path / "t.xlsx")


def test_a_configured_path_is_under_the_state_root(home: Path) -> None:
    (home / "data" / "raw").mkdir(parents=True)
    (home / "data" / "raw" / "training.csv").write_text("a,b\n1,2\n")
    assert read_table(DataSettings()).rows == 1


def test_a_query_is_a_table_and_its_database_is_only_read(home: Path) -> None:
    with sqlite3.connect(home / "db.sqlite") as connection:
        connection.execute("create table t (a, b)")
        connection.executemany("insert into t values (?, ?)", [(1, "x"), (None, "y")])
    table = read_table(DataSettings(source="sqlite:///db.sqlite", query="select * from t"))
    assert table.frame["b"].tolist() == ["x", "y"]
    with pytest.raises(InputError, match=r"data\.query failed"):
        read_table(DataSettings(source="sqlite:///db.sqlite", query="delete from t"))
    assert read_table(DataSettings(source="sqlite:///db.sqlite", query="select * from t")).rows == 2


@pytest.mark.parametrize(
    ("source", "query", "sentence"),
    [
        ("sqlite:///none.sqlite", "select 1", "there is no such file"),
        ("sqlite:///there.sqlite", None, r"set data\.query"),
        ("sqlite:///there.sqlite", "selec 1", r"data\.query failed: near \"selec\": syntax error"),
        ("nosuch+driver://x", "select 1", "cannot be read"),
        ("snowflake://me:secret@host/x", "select 1", "no connection can be made"),
    ],
)
def test_a_database_that_cannot_be_asked_is_one_sentence_without_its_password(
    home: Path, source: str, query: str | None, sentence: str
) -> None:
    sqlite3.connect(home / "there.sqlite").close()
    with pytest.raises(InputError, match=sentence) as caught:
        read_table(DataSettings(source=source, query=query))
    assert "secret" not in str(caught.value)
    assert not (home / "none.sqlite").exists()


def test_fsspec_addresses_are_read() -> None:
    with fsspec.open("memory://folder/t.csv.gz", "wb") as stream:
        stream.write(gzip.compress(b"a,b\n1,x\n"))
    assert read_table(DataSettings(source="memory://folder/t.csv.gz")).frame.to_dict("list") == {"a": [1], "b": ["x"]}
    with pytest.raises(InputError, match="there is nothing at this address"):
        read_table(DataSettings(source="memory://folder/none.csv"))


def test_names_are_trimmed_and_nameless_columns_get_one(tmp_path: Path) -> None:
    assert list(read_text(tmp_path, ", Größe ,a b\n0,1,2\n").columns) == ["column_1", "Größe", "a b"]


def test_unusual_types_of_parquet_become_plain_ones(tmp_path: Path) -> None:
    frame = pd.DataFrame({"d": pd.to_timedelta([1, 2], unit="h"), "c": pd.Categorical(["x", None]), "l": [[1], [2]]})
    frame.to_parquet(tmp_path / "t.parquet")
    read = read_table(DataSettings(), tmp_path / "t.parquet").frame
    assert read["c"].isna().tolist() == [False, True]
    assert read["d"].dt.total_seconds().tolist() == [3600.0, 7200.0]
