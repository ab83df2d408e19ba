"""A report's page: whole, offline, and of text that cannot become markup."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from typing import Any

import msgspec
import numpy as np
import pytest

from monitoring.drift_report import DriftReport
from monitoring.report_data import Report, ReportedIncident
from monitoring.report_page import report_page
from tests import drift_rows
from tests.logged import NOON
from tests.made_reports import made_model, made_report, month

PICTURE = b"\x89PNG of a test"
EMPTY_ELEMENTS = {"meta", "img"}
EVIL = "<script>alert('日本 & \"é\"')</script>"


class Page(HTMLParser):
    """Fails on a tag that is not closed in its turn; keeps tags, attributes and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[Any]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in EMPTY_ELEMENTS:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def drift() -> DriftReport:
    columns = drift_rows.draw(1_000, 2)
    return drift_rows.check(drift_rows.reference(), changes={"income": np.array(columns["income"]) * 1.4})


def incident(status: str = "open", **text: str) -> ReportedIncident:
    values: dict[str, Any] = {"kind": "data_drift", "cause": "income is up", "next": "python main.py retrain"} | text
    return ReportedIncident(
        id=1, severity="high", status=status, model_version="4", opened_at=NOON, features=("income",), **values
    )  # fmt: skip


def with_incidents(report: Report, *incidents: ReportedIncident) -> Report:
    return msgspec.structs.replace(report, incidents=incidents)


def gaps() -> Report:
    return made_report([made_model(version, {0: (90, 60), 3: (90, 0)}) for version in ("1", "2")])


@pytest.mark.parametrize(
    "of", [lambda: made_report([]), lambda: made_report([made_model("1", {0: (9, 0)})]), gaps, month]
)
def test_the_page_is_well_formed_and_needs_no_network(of: Any) -> None:
    html = report_page(with_incidents(of(), incident()), drift(), PICTURE)
    page = Page(html)
    assert not re.search(r"https?:|//\w|@import|url\(", html.replace(base64.b64encode(PICTURE).decode(), ""))
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]


def test_the_picture_is_within_the_page() -> None:
    [source] = [value for name, value in Page(report_page(month(), "none", PICTURE)).attributes if name == "src"]
    assert source is not None
    assert base64.b64decode(source.removeprefix("data:image/png;base64,")) == PICTURE


def test_it_says_what_it_is_of_and_when_it_was_made() -> None:
    words = Page(report_page(month(), "none", PICTURE)).words
    assert "Model report of the last 30 days" in words
    assert "2026-01-30 to 2026-03-01, made 2026-03-01 12:00 UTC" in words


def test_figures_stand_with_interval_coverage_and_baseline() -> None:
    report = month()
    html, model = report_page(report, "none", PICTURE), report.models[0]
    interval = model.intervals["f1_score"]
    assert interval is not None
    cells = [f"{model.metrics['f1_score']:.4f}", f"{interval[0]:.4f} to {interval[1]:.4f}", "0.8700"]
    assert "<tr><th>f1_score</th>" + "".join(f"<td>{cell}</td>" for cell in cells) in html
    assert f"({model.coverage:.1%})" in html
    assert html.count("<th>2026-02-") == sum(day.day.month == 2 for one in report.models for day in one.by_day)


def test_what_is_not_known_is_said_and_is_no_zero() -> None:
    words = Page(report_page(made_report([made_model("1", {0: (9, 0)})]), "none", PICTURE)).words
    assert "not known" in words
    assert "How good the answers were is not known: no outcome has come back." in words
    assert "0.0000" not in words
    assert "No predictions were logged in these days." in Page(report_page(made_report([]), "none", PICTURE)).words


def test_drift_stands_in_words_and_in_a_table() -> None:
    found = drift()
    page = Page(report_page(made_report([]), found, PICTURE))
    assert found.feature_scores["income"].words in page.words
    assert "Drift: YES" in page.words
    assert all(name in page.words for name in found.feature_scores)
    assert "No check yet" in Page(report_page(made_report([]), "No check yet", PICTURE)).words


def test_an_open_incident_says_its_next_command_and_a_resolved_one_does_not() -> None:
    for status, told in (("open", True), ("resolved", False)):
        page = Page(report_page(with_incidents(made_report([]), incident(status)), "none", PICTURE))
        assert ("python main.py retrain" in page.words) is told
        assert "high" in page.words
        assert "income is up" in page.words


def test_no_text_from_outside_becomes_markup() -> None:
    scores = drift_rows.check(drift_rows.reference())
    score = msgspec.structs.replace(scores.feature_scores["income"], words=EVIL, drift_detected=True)
    found = msgspec.structs.replace(
        scores, feature_scores={EVIL: score}, drifted_features=[EVIL], withheld=[EVIL], note=EVIL
    )  # fmt: skip
    report = with_incidents(made_report([made_model(EVIL, {0: (90, 60)})]), incident(kind=EVIL, cause=EVIL, next=EVIL))
    for shown in (found, EVIL):
        page = Page(report_page(report, shown, PICTURE))
        assert "script" not in page.tags
        assert page.words.count(EVIL) >= 5


def test_text_that_is_not_valid_unicode_is_mended() -> None:
    report = with_incidents(made_report([]), incident(cause="half \ud800 a letter\x00"))
    assert "half ? a letter\ufffd" in report_page(report, "none", PICTURE).encode().decode()
