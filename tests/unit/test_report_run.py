"""The report of a run: every section is there, what is missing says how to make it, and nothing hostile gets through."""

import json
import re
from dataclasses import replace
from pathlib import Path

import altair as alt
import pyarrow as pa
import pytest
from drawn_run import HOSTILE, write_run

from mmtrain.cli import main
from mmtrain.data.writer import StoreWriter
from mmtrain.errors import ConfigError
from mmtrain.report.charts import Limits
from mmtrain.report.parts import Chart, DataTable, Missing, Section
from mmtrain.report.pictures import named_charts, specification, write_pictures
from mmtrain.report.run_page import SECTIONS, report_page, run_sections, write_report
from mmtrain.report.run_record import read_run
from mmtrain.report.scripts import page_script, vega_script

TITLES = [
    "Summary",
    "Learning curves",
    "Curriculum",
    "Gradients",
    "Learning rate",
    "Throughput and memory",
    "Confusion",
    "ROC and PR",
    "Calibration",
    "Robustness",
    "Importance of modalities",
    "Data map",
    "Worst samples",
    "Streams and groups",
    "Attention",
    "Test reads",
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("whole") / "drawn")


@pytest.fixture(scope="module")
def sections(whole: Path) -> dict[str, Section]:
    return {section.title: section for section in run_sections(read_run(whole))}


def missing(section: Section) -> list[Missing]:
    return [part for part in section.parts if isinstance(part, Missing)]


def tables(section: Section) -> dict[str, DataTable]:
    return {part.title: part for part in section.parts if isinstance(part, DataTable)}


def charts(section: Section) -> dict[str, Chart]:
    return {part.title: part for part in section.parts if isinstance(part, Chart)}


def test_every_section_is_there_and_lacks_nothing(sections: dict[str, Section]) -> None:
    assert list(sections) == TITLES
    assert len(SECTIONS) == len(TITLES)
    lacking = {title: missing(section) for title, section in sections.items() if missing(section)}
    assert list(lacking) == ["Worst samples"]  # the store is not there
    assert "The texts of stream clips are not shown: there is no store stores/clips" in lacking["Worst samples"][0].what


@pytest.mark.slow
def test_every_drawing_keeps_to_the_schema_of_vega_lite(sections: dict[str, Section]) -> None:
    drawn = list(named_charts(list(sections.values())))
    assert len(drawn) > 30
    for _, chart in drawn:
        values = {**chart.drawing, "$schema": alt.SCHEMA_URL}
        alt.Chart.from_dict(values, validate=True)
        assert chart.summary.endswith(".")
        fields = set(re.findall(r'"field": "([^"]*)"', json.dumps(chart.drawing)))
        assert fields <= set(chart.columns), chart.title


def test_a_run_that_has_just_begun_says_what_makes_the_rest(tmp_path: Path) -> None:
    run = write_run(tmp_path / "new", num_steps=0, analyzed=False)
    (run / "predictions" / "val.parquet").unlink()
    found = {section.title: missing(section) for section in run_sections(read_run(run))}
    commands = {title: [part.command for part in parts] for title, parts in found.items()}
    val = f"mmtrain evaluate {run} --split val"
    assert commands == {
        "Summary": [val],
        "Learning curves": [""],
        "Curriculum": [""],
        "Gradients": [""],
        "Learning rate": [""],
        "Throughput and memory": [""],
        "Confusion": [val],
        "ROC and PR": [val],
        "Calibration": [val],
        "Robustness": [f"mmtrain evaluate {run} --robustness"],
        "Importance of modalities": [f"mmtrain evaluate {run} --importance"],
        "Data map": [f"mmtrain datamap {run}"],
        "Worst samples": [val],
        "Streams and groups": [val],
        "Attention": [f"mmtrain attention {run} ID"],
        "Test reads": [f"mmtrain evaluate {run} --split test"],
    }
    assert "training.train_predictions: true" in found["Data map"][0].what


def test_hostile_names_and_texts_stay_text(whole: Path) -> None:
    html = report_page(read_run(whole))
    for script in (vega_script(), page_script()):
        html = html.replace(f"<script>{script}</script>", "")
    assert "document.title" in html
    assert html.count("<script") == html.count("</script>") == html.count('<script type="application/json">')
    assert HOSTILE not in html


def test_texts_of_the_store_stand_beside_the_worst_samples(whole: Path, tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "clips", name="clips", modalities={}, tasks={}) as writer:
        writer.add(id="clip-003", split="val", group="film", text=HOSTILE)
        writer.add(id="clip-004", split="val", group="film", text="x" * 500)
    record = read_run(whole)
    config = {**record.config, "datasets": {"clips": {"store": str(tmp_path / "clips")}}}
    found = {section.title: section for section in run_sections(replace(record, config=config))}["Worst samples"]
    assert missing(found) == []
    table = tables(found)["funny, val"]
    place = {name: table.header.index(name) for name in ("id", "text", "loss")}
    by_id = {row[place["id"]]: row[place["text"]] for row in table.rows}
    assert by_id["clip-003"] == HOSTILE
    assert by_id["clip-004"] == "x" * 400 + "\u2026"
    assert by_id["clip-005"] == ""
    losses = [row[place["loss"]] for row in table.rows]
    assert losses == sorted(losses, reverse=True)


def test_answers_are_in_words_and_by_the_threshold_of_validation(sections: dict[str, Section], whole: Path) -> None:
    found = tables(sections["Worst samples"])
    items = read_run(whole).predictions["val"]
    funny = {row[6 - 1]: row for row in found["funny, val"].rows}
    assert found["funny, val"].header == ("loss", "label", "prediction", "p of the label", "text", "id", "stream", "group")
    for number, name in enumerate(items["funny"].ids.tolist()):
        probability = items["funny"].probabilities[number]
        label = bool(items["funny"].labels[number])
        # 0.8 after a temperature of 2: odds of 4 are odds of 16 before, 16/17
        assert funny[name][1:3] == ["yes" if label else "no", "yes" if probability > 16 / 17 else "no"]
        assert funny[name][3] == pytest.approx(probability if label else 1 - probability)
    assert found["mood, val"].rows[0][1] in ("a", "b", HOSTILE)
    assert found["pitch, val"].header[:3] == ("loss", "label", "prediction")
    assert len(found["pair, val"].rows) == 1  # the other has no loss


def test_equal_runs_give_equal_bytes(whole: Path) -> None:
    assert report_page(read_run(whole)) == report_page(read_run(whole))


def test_a_page_too_large_is_thinned_until_it_fits(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mmtrain.report import run_page

    asked: list[Limits] = []
    monkeypatch.setattr(run_page, "SECTIONS", (lambda record: asked.append(record.limits) or Section("s", ["x"]),))
    monkeypatch.setattr(run_page, "render_page", lambda **_: "\u20ac" * (asked[-1].points * 1000))
    page = report_page(read_run(whole))
    assert [limits.points for limits in asked] == [2000, 1000]
    assert len(page.encode()) < 5_000_000 < 2 * len(page.encode())


def test_the_file_is_where_it_is_asked_for(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert write_report(whole) == whole / "report.html"
    out = tmp_path / "deep" / "page.html"
    main_code(["report", str(whole), "--out", str(out)])
    assert out.read_bytes() == (whole / "report.html").read_bytes()
    assert f"written to {out}" in capsys.readouterr().out


def main_code(arguments: list[str]) -> int:
    try:
        main(arguments)
    except SystemExit as error:
        return int(error.code or 0)
    return 0


def test_what_is_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main_code(["report", str(tmp_path)]) == 2
    assert f"{tmp_path} is not a run folder" in capsys.readouterr().err
    run = write_run(tmp_path / "run", analyzed=False)
    (run / "environment.json").write_text("{")
    with pytest.raises(ConfigError, match=r"config.yaml or environment.json is damaged"):
        read_run(run)


@pytest.mark.parametrize("words", [["report", "RUN"], ["plot", "RUN", "--out", "figures"]])
def test_without_its_libraries_a_command_names_the_extra(
    whole: Path, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mmtrain.extras.find_spec", lambda name: None if name == "altair" else name)
    assert main_code([str(whole) if word == "RUN" else word for word in words]) == 2
    assert (
        f"mmtrain {words[0]} needs altair, which this Python lacks: pip install 'mmtrain[report]'" in capsys.readouterr().err
    )


def test_a_file_cut_off_while_it_is_written_is_as_if_it_were_not_there(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (run / "evaluation" / "val.json").write_text('{"split": "val", "rows": [')
    (run / "evaluation" / "attention" / "a.json").write_text("{")
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "step", "st')
    found = {section.title: section for section in run_sections(read_run(run))}
    assert missing(found["Summary"])
    assert missing(found["Attention"])


def test_what_is_undefined_is_a_sentence_and_no_empty_chart(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    for name, keys in (("robustness", ("value",)), ("importance", ("value", "drop", "low", "high"))):
        file = run / "evaluation" / f"val-{name}.json"
        values = json.loads(file.read_text())
        values["rows"] = [row | dict.fromkeys(keys) for row in values["rows"]]
        file.write_text(json.dumps(values))
    found = {section.title: section for section in run_sections(read_run(run))}
    for title in ("Robustness", "Importance of modalities"):
        assert charts(found[title]) == {}
        assert "funny, val: auroc is not defined over these samples." in found[title].parts


def test_one_group_has_points_of_importance_and_no_bars(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    file = run / "evaluation" / "val-importance.json"
    values = json.loads(file.read_text())
    values["rows"] = [row | {"low": None, "high": None} for row in values["rows"]]
    file.write_text(json.dumps(values))
    section = next(part for part in run_sections(read_run(run)) if part.title == "Importance of modalities")
    drawn = charts(section)["funny, val"]
    assert drawn.columns == {"name": ["text"], "drop": [0.2]}
    assert drawn.summary.endswith("no interval is defined over these groups.")


def test_a_run_none_of_whose_gradients_was_finite_says_so(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", analyzed=False)
    file = run / "metrics.jsonl"
    records = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(record | {"grad_norm": None}) + "\n" for record in records))
    found = {section.title: section for section in run_sections(read_run(run))}
    assert missing(found["Gradients"])[0].what == "No step with a finite gradient is logged yet"


def test_pictures_are_as_wide_as_a_column_and_say_what_they_are(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmtrain.report import run_page

    monkeypatch.setattr(run_page, "SECTIONS", SECTIONS[4:5])
    files = write_pictures(whole, tmp_path / "figures")
    assert [file.name for file in files] == ["learning-rate-learning-rate.png", "learning-rate-learning-rate.pdf"]
    header = files[0].read_bytes()[:24]
    assert int.from_bytes(header[16:20], "big") == 990  # 3.3 inches of 300 dots
    assert b"/MediaBox [0 0 237.6 " in files[1].read_bytes()  # of 72 points


def test_a_picture_holds_its_data_and_letters_of_seven_points(sections: dict[str, Section]) -> None:
    chart = charts(sections["Confusion"])["funny, val"]
    drawn = specification(chart)
    assert drawn["width"] == pytest.approx(237.6)
    assert len(drawn["datasets"]["rows"]) == 4
    assert {layer["mark"].get("fontSize") for layer in drawn["layer"]} == {None, 7}


def test_a_data_map_that_is_none_is_as_if_it_were_not_there(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (run / "evaluation" / "data_map.parquet").write_bytes(b"PAR1")
    with pytest.raises(pa.ArrowException):
        pa.parquet.read_table(run / "evaluation" / "data_map.parquet")
    found = {section.title: section for section in run_sections(read_run(run))}
    assert missing(found["Data map"])
