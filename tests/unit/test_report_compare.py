"""Several runs on one page."""

from dataclasses import replace
from pathlib import Path

import pytest
from drawn_run import HOSTILE, write_run

from mmtrain.evaluation.table import TextTable
from mmtrain.report import compare_page as pages
from mmtrain.report.compare_page import run_names, table_of, write_compare_page
from mmtrain.report.parts import Cell, Chart, DataTable, Section
from mmtrain.report.run_record import RunRecord, read_run

TABLE = TextTable("val split", ("metric", "difference", "odds", "groups"), (("a/loss", "-0.120 *", "-", "few: 12"),), 1)


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    return read_run(write_run(tmp_path_factory.mktemp("runs") / "drawn", analyzed=False))


def other(record: RunRecord, name: str) -> RunRecord:
    return replace(record, config={**record.config, "name": name, "batch": {"size": 8}, "runs": "elsewhere"})


def drawn_sections(records: list[RunRecord], monkeypatch: pytest.MonkeyPatch, **words: object) -> dict[str, Section]:
    kept: list[Section] = []
    monkeypatch.setattr(pages, "render_page", lambda sections, **_: kept.extend(sections) or "")
    pages.compare_page(records, **words)  # type: ignore[arg-type]
    return {section.title: section for section in kept}


def test_curves_of_runs_lie_over_each_other(record: RunRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    found = drawn_sections([record, other(record, HOSTILE)], monkeypatch)
    charts = {part.title: part for part in found["Learning curves"].parts if isinstance(part, Chart)}
    assert list(charts)[:2] == ["funny: validation loss", "funny: average precision"]
    assert list(zip(*charts["funny: validation loss"].columns.values(), strict=True)) == [
        *((step, "drawn", 1 / step) for step in (5, 10, 15, 20)),
        *((step, HOSTILE, 1 / step) for step in (5, 10, 15, 20)),
    ]
    assert [part.title for part in found["Training"].parts] == ["Objective", "Gradient norm", "Samples a second"]


def test_settings_that_differ_are_named_and_no_others(record: RunRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = drawn_sections([record, other(record, "b")], monkeypatch)["Runs"].parts
    assert isinstance(tables[1], DataTable)
    assert tables[1].rows == [["batch.size", "4", "8"]]
    assert isinstance(tables[0], DataTable)
    assert [row[:5] for row in tables[0].rows] == [[name, 20, "val/loss", 0.05, 20] for name in ("drawn", "b")]
    assert drawn_sections([record, record], monkeypatch)["Runs"].parts[1] == "Their configs are the same."


def test_runs_of_one_name_go_by_their_folders(record: RunRecord) -> None:
    assert run_names([record, other(record, "b")]) == ["drawn", "b"]
    assert run_names([record, record]) == [str(record.run.path)] * 2


def test_a_table_of_a_terminal_sorts_by_its_numbers() -> None:
    found = table_of(TABLE)
    assert found.rows == [["a/loss", Cell("-0.120 *", -0.12), Cell("-", None), Cell("few: 12", 12.0)]]


def test_the_page_is_written_with_tables_and_notes(record: RunRecord, tmp_path: Path) -> None:
    folder = record.run.path
    out = tmp_path / "deep" / "compare.html"
    assert write_compare_page([folder, folder], out, tables=[TABLE], notes=["how"]) == out
    html = out.read_text()
    assert "val split" in html
    assert "<p>how</p>" in html
    write_compare_page([folder], out)
    assert f"<code>mmtrain compare {folder}</code>" in out.read_text()
