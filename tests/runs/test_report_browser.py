"""The report of a real run in a real browser: every section, sorting, searching, no error, no request, nothing hostile."""

import csv
import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from drawn_run import HOSTILE
from lives import Write, live

from mmtrain.cli import main
from mmtrain.data.schema import TaskSchema
from mmtrain.data.writer import StoreWriter

CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium"),
]
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")
OFFLINE = ("--disable-component-update", "--disable-sync")
SECTIONS = [
    *("summary", "learning-curves", "curriculum", "gradients", "learning-rate", "throughput-and-memory", "confusion"),
    *("roc-and-pr", "calibration", "robustness", "importance-of-modalities", "data-map", "worst-samples"),
    *("streams-and-groups", "attention", "test-reads"),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hostile subtitles in a store: markup, quotes, another direction, and a formula for a spreadsheet."""
    path = tmp_path_factory.mktemp("hostile") / "clips"
    tasks = {"funny": TaskSchema(kind="binary"), "mood": TaskSchema(kind="multiclass", classes=("calm", HOSTILE))}
    texts = (HOSTILE, "=1+1", "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd 12", "plain words")
    with StoreWriter(path, name="clips", tasks=tasks) as writer:
        for number in range(48):
            split = ("train", "train", "val", "test")[number // 12]
            labels = {"funny": number % 2, "mood": number % 3 % 2}
            writer.add(
                id=f"{number}-{HOSTILE}", split=split, group=f"film {number // 4}", text=texts[number % 4], labels=labels
            )
    return path


@pytest.fixture
def report(store: Path, write_experiment: Write) -> Path:
    """Of a run that refreshed it while it was trained."""
    stream = {"dataset": "clips", "tasks": ["funny", "mood"]}
    file = write_experiment(tracking={"report": True}, regularizers={}, training={"epochs": 2, "train_predictions": True})
    values = yaml.safe_load(file.read_text())
    values |= {"datasets": {"clips": {"store": str(store)}}, "streams": {"clips": stream}, "tasks": {}}
    values["model"] |= {"sequences": {}, "fusion": {"name": "attention"}}
    file.write_text(yaml.safe_dump(values))
    life = live(["train", "--config", str(file)], cwd=file.parent, timeout=300)
    assert life.code == 0, life
    assert "report failed" not in life.out
    return file.parent / "runs" / "run" / "report.html"


@pytest.fixture
def analyzed(report: Path) -> Path:
    """The same, of a run of which everything was asked that a report draws."""
    run = str(report.parent)
    for words in (
        ["evaluate", run],
        ["evaluate", run, "--split", "test"],
        ["evaluate", run, "--robustness", "--levels", "drop=1", "--levels", "typos=1"],
        ["evaluate", run, "--importance", "--repeats", "1"],
        ["datamap", run],
        ["attention", run, f"24-{HOSTILE}"],
        ["report", run],
    ):
        with pytest.raises(SystemExit) as end:
            main(words)
        assert not end.value.code, words
    return report


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    """A context of a browser that is told to say nothing to anybody."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path / "profile", executable_path=CHROMIUM, headless=True, args=[*QUIET, *OFFLINE], accept_downloads=True
        )
        yield context
        context.close()


def show(context: Any, file: Path, *, width: int, scheme: str) -> tuple[Any, list[str]]:
    """The page when all its charts are drawn, and what its console and the network saw."""
    page, seen = context.new_page(), []
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    page.on("console", lambda message: seen.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: seen.append(f"error: {error}"))
    page.on("request", lambda request: seen.append(request.url) if request.url != file.as_uri() else None)
    page.goto(file.as_uri())
    page.wait_for_selector("html[data-drawn]", timeout=120_000)
    return page, seen


def column(table: Any, number: int) -> list[str]:
    rows = table.locator("tbody tr:not([hidden])")
    return [rows.nth(at).locator("td").nth(number).inner_text() for at in range(rows.count())]


def test_the_report_of_a_run(report: Path, browser: Any, tmp_path: Path) -> None:
    page, seen = show(browser, report, width=1280, scheme="light")
    assert [section.get_attribute("id") for section in page.locator("main > section").all()] == SECTIONS
    assert page.locator("nav a").count() == len(SECTIONS)
    order = []
    for _ in range(len(SECTIONS) + 2):
        page.keyboard.press("Tab")
        order.append(page.locator(":focus").inner_text())
    assert order[:2] == ["Skip to the content", "Summary"]
    assert order[-2:] == ["Test reads", "CSV"]  # then the first table's
    assert page.title() == "run"  # no hostile text has changed it
    charts = page.locator("figure.chart")
    assert charts.count() > 12
    for chart in charts.all():
        assert chart.locator("svg path, svg rect, svg line").count() > 2, chart.inner_text()
        assert chart.locator(".drawing").get_attribute("aria-label")

    table = page.locator("#worst-samples figure.table").first
    texts = table.locator("tbody td bdi").all_inner_texts()
    assert any("</script>" in text and '"quoted"' in text for text in texts)
    losses = [float(cell) for cell in column(table, 0)]
    assert losses == sorted(losses, reverse=True)
    head = table.locator("th").first
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    head.locator("button").focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    assert [float(cell) for cell in column(table, 0)] == sorted(losses)

    table.locator("input").fill("plain words")
    assert set(column(table, 4)) == {"plain words"}
    assert table.locator("output").inner_text() == "3 of 12 rows"
    table.locator("input").fill("")

    with page.expect_download() as waiting:
        table.locator("button.csv").click()
    rows = list(csv.reader(io.StringIO(save(waiting, tmp_path / "rows.csv").removeprefix("\ufeff"))))
    assert rows[0][:2] == ["loss", "label"]
    assert len(rows) == 13
    assert "'=1+1" in [row[4] for row in rows]  # no formula
    with page.expect_download() as waiting:
        charts.first.locator("button.csv").click()
    assert save(waiting, tmp_path / "chart.csv").startswith("\ufeffstep,loss,loss_q05")

    assert seen == []


def test_every_section_of_an_analyzed_run_is_drawn_and_printed_whole(analyzed: Path, browser: Any) -> None:
    page, seen = show(browser, analyzed, width=1280, scheme="light")
    assert "\n".join(page.locator(".missing").all_inner_texts()) == ""
    for name in SECTIONS:
        assert page.locator(f"#{name} figure").count() > 0, name
    for chart in page.locator("figure.chart").all():
        assert chart.locator("svg path, svg rect, svg line").count() > 2, chart.inner_text()
    assert page.title() == "run"
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 700, "height": 1000})  # of paper
    for table in page.locator("figure.table .scroll").all():
        whole, seen_of_it = table.evaluate("node => [node.scrollWidth, node.clientWidth]")
        assert whole <= seen_of_it, table.inner_text()
    assert seen == []


def save(waiting: Any, file: Path) -> str:
    waiting.value.save_as(file)
    return file.read_bytes().decode()


@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_fits_a_phone_and_the_dark(report: Path, browser: Any, width: int) -> None:
    page, seen = show(browser, report, width=width, scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 23, 26)"
    line = page.locator('.drawing svg path[stroke="#0b6bb0"]').first
    assert line.evaluate("node => getComputedStyle(node).stroke") == "rgb(93, 176, 240)"
    word = page.locator(".drawing svg text").first
    assert word.evaluate("node => getComputedStyle(node).fill") in ("rgb(232, 232, 230)", "rgb(164, 168, 176)")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert seen == []
