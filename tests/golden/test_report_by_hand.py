"""What a report draws, counted by hand."""

import json
import re
from dataclasses import replace
from pathlib import Path

import altair as alt
import numpy as np
import pytest
import vl_convert
from drawn_run import CONFIG, lines, predictions, write_run

from mmtrain.evaluation.ranking import Ranking
from mmtrain.evaluation.standards import FEW_GROUPS
from mmtrain.report import drawing
from mmtrain.report.charts import Limits, line_chart
from mmtrain.report.drawing import DASHES, NEUTRAL, PALETTE, SHAPES, around_one, color, dash, shape_legend, spread
from mmtrain.report.heatmap import heatmap
from mmtrain.report.parts import Chart, DataTable, Section
from mmtrain.report.pictures import specification
from mmtrain.report.ranking import ranking_section
from mmtrain.report.run_log import Line, over_steps, read_run_log
from mmtrain.report.run_page import run_sections
from mmtrain.report.run_record import read_run
from mmtrain.report.thinning import spread_out, thin

NAN = float("nan")


@pytest.fixture(scope="module")
def sections(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Section]:
    run = write_run(tmp_path_factory.mktemp("runs") / "drawn")
    return {section.title: section for section in run_sections(read_run(run))}


def chart(section: Section, title: str) -> Chart:
    return next(part for part in section.parts if isinstance(part, Chart) and part.title == title)


def table(section: Section, title: str) -> DataTable:
    return next(part for part in section.parts if isinstance(part, DataTable) and part.title == title)


def test_a_long_line_keeps_its_ends_and_the_extremes_of_each_stretch() -> None:
    values = np.array([5.0, 1, 9, 2, 3, 4, 8, 7, 0, 6, 6, 6])
    steps, kept = thin(np.arange(1.0, 13), values, most=6)  # three stretches of four
    assert steps.tolist() == [1, 2, 3, 5, 7, 9, 10, 12]
    assert kept.tolist() == [5, 1, 9, 3, 8, 0, 6, 6]


def test_a_short_line_stays_and_a_gap_stays_a_gap() -> None:
    steps = np.arange(8.0)
    values = np.array([1, 2, NAN, 4, NAN, NAN, 7, 8])
    assert thin(steps, values, most=8)[1] is values
    steps, _ = thin(steps, values, most=7)  # three stretches: 0-1, 2-4, 5-7
    assert steps.tolist() == [0, 1, 3, 6, 7]
    whole = np.full(8, NAN)
    assert np.isnan(thin(np.arange(8.0), whole, most=4)[1]).all()


def test_numbers_spread_out_evenly() -> None:
    assert spread_out(3, most=5).tolist() == [0, 1, 2]
    assert spread_out(9, most=5).tolist() == [0, 2, 4, 6, 8]


def test_more_names_than_colors_are_told_apart_by_their_dashes() -> None:
    names = [str(number) for number in range(50)]
    pairs = zip(*(channel("name", names).to_dict()["scale"]["range"] for channel in (color, dash)), strict=True)
    assert len({(shade, tuple(pattern)) for shade, pattern in pairs}) == 50
    assert len(set(PALETTE)) == len(SHAPES) == 8
    assert len(DASHES) == 7


@pytest.mark.parametrize("shade", PALETTE)
def test_colors_stand_out_from_white_and_are_lightened_on_dark(shade: str) -> None:
    style = (Path(__file__).parents[2] / "mmtrain" / "report" / "page.css").read_text()
    assert contrast(shade, "#ffffff") >= 3.5
    number = PALETTE.index(shade) + 1
    assert f'[stroke="{shade}"] {{ stroke: var(--c{number}); }}' in style
    assert f'[fill="{shade}"] {{ fill: var(--c{number}); }}' in style
    light, dark = (part.split(";")[0].strip() for part in style.split(f"--c{number}:")[1:])
    assert light == shade
    assert contrast(dark, "#15171a") >= 6


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, contrast ratio."""

    def luminance(shade: str) -> float:
        parts = [int(shade[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    bright, dim = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def test_a_log_is_read_by_columns_whatever_begins_late_or_is_cut_off(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", num_steps=0)
    records = [
        {"kind": "step", "step": 1, "loss": {"a": 1.0}, "grad_norm": 3.0},
        {"kind": "step", "step": 2, "loss": {"a": 2.0, "b": 5.0}, "grad_norm": None, "left_out": 1},
        {"kind": "step", "step": 3, "loss": {"b": 6.0}, "grad_norm": 4.0},
    ]
    lines(run / "metrics.jsonl", records)
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(records[0])[:-3])
    twice = [{"kind": "window", "step": 2, "seconds": 1.0}, {"kind": "window", "step": 4}, {"kind": "window", "step": 2}]
    lines(run / "timing.jsonl", twice)
    log = read_run_log(read_run(run).run)
    assert {line.name: str(line.values.tolist()) for line in log.lines("loss/")} == {
        "a": "[1.0, 2.0, nan]",
        "b": "[nan, 5.0, 6.0]",
    }
    assert str(log.columns["grad_norm"].tolist()) == "[3.0, nan, 4.0]"
    assert str(log.columns["left_out"].tolist()) == "[nan, 1.0, nan]"
    assert log.last_step == 3
    assert log.timing == [{"kind": "window", "step": 2}, {"kind": "window", "step": 4}]


def test_lines_of_records_have_gaps_where_a_record_says_nothing() -> None:
    found = over_steps([{"step": 1, "of": {"a": 1}}, {"step": 2, "of": {"b": None}}], lambda record: record["of"])
    assert [(line.name, str(line.values.tolist())) for line in found] == [("a", "[1.0, nan]"), ("b", "[nan, nan]")]


def test_a_chart_of_lines_holds_them_one_below_the_other_and_its_events_last() -> None:
    drawn = line_chart(
        "t",
        "s",
        [Line("a", np.array([1.0, 2]), np.array([0.5, NAN])), Line("b", np.array([2.0]), np.array([3.0]))],
        y="loss",
        limits=Limits(),
        events={2: "what happened"},
    )
    assert drawn.columns == {
        "step": [1, 2, 2, 2],
        "name": ["a", "a", "b", None],
        "loss": [0.5, None, 3.0, None],
        "event": [None, None, None, "what happened"],
    }


def test_shares_counts_and_activity(sections: dict[str, Section]) -> None:
    found = sections["Curriculum"]
    assert "10 windows, 1 decisions beyond shares" in str(found.parts[0])
    assert (
        chart(found, "Realized counts").summary
        == "The share of each stream in the samples drawn. In all: clips 80 (100.0%)."
    )
    assert chart(found, "Pools").columns["samples"][:10] == [6, 6, 6, 12, 12, 12, 12, 12, 12, 12]
    active = chart(found, "Active tasks")
    assert active.summary.endswith("funny 100%, mood 50%, tags 100%, pitch 100%.")
    assert set(zip(active.columns["task"], active.columns["active"], strict=True)) == {
        ("funny", 1.0),
        ("mood", 0.5),
        ("tags", 1.0),
        ("pitch", 1.0),
    }
    assert table(found, "Decisions").rows[0][0] == 8


def test_clipping_is_counted(sections: dict[str, Section]) -> None:
    found = sections["Gradients"]
    assert found.parts[0] == "20 steps; clipping is `norm`, which scaled 75.0% of them down."
    shares = chart(found, "Clipped steps").columns["share"]
    assert shares == [1.0, 1.0, 1.0, 0.0] * 5  # a norm of 2 but at every fourth step, and 1 is the bound


def test_confusion_by_a_threshold_before_temperature(sections: dict[str, Section], tmp_path: Path) -> None:
    record = read_run(write_run(tmp_path / "run"))
    # odds of 4 after dividing logits by 2 are odds of 16 before
    item = record.predictions["val"]["funny"]
    words = "Yes: a probability of the model's own above 0.941, as validation chose it."
    assert words in chart(sections["Confusion"], "funny, val").summary
    counts = [[0, 0], [0, 0]]
    for label, probability in zip(item.labels, item.probabilities, strict=True):
        counts[int(label)][int(probability > 16 / 17)] += 1
    assert chart(sections["Confusion"], "funny, val").columns["text"] == [str(count) for row in counts for count in row]


def test_a_curve_of_a_ranking() -> None:
    true, false = Ranking(np.array([1.0, 0, 1, 0]), np.array([0.9, 0.9, 0.4, 0.1])).curve()
    assert (true.tolist(), false.tolist()) == ([1, 2, 2], [1, 1, 2])


def test_losses_by_group_without_an_analysis(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", analyzed=False)
    record = read_run(run)
    item = record.predictions["val"]["pitch"]
    found = {section.title: section for section in run_sections(record)}["Streams and groups"]
    rows = table(found, "pitch, val: groups").rows
    by_group = {name: item.losses[[at for at in range(12) if at % 4 == number]] for number, name in enumerate("0123")}
    expected = sorted(by_group.items(), key=lambda pair: -float(np.mean(pair[1], dtype=np.float64)))
    assert [row[0] for row in rows] == [f"film-{name}" for name, _ in expected]
    for row, (_, losses) in zip(rows, expected, strict=True):
        assert row[1:3] == ["clips", 3]
        assert row[3:] == [pytest.approx(losses.mean()), pytest.approx(losses.std())]


def test_samples_of_a_data_map_by_how_often_they_were_right(sections: dict[str, Section]) -> None:
    found = chart(sections["Data map"], "funny")
    assert found.summary == (
        "4 epochs: 1 always right, 1 mostly right, 0 mostly wrong, 0 always wrong; "
        "1 were right and then wrong at least once."
    )
    assert found.columns["answers"] == ["mostly right", "always right"]  # by confidence


def test_the_run_is_summed_up(sections: dict[str, Section]) -> None:
    found = sections["Summary"]
    assert found.parts[0] == (
        "20 of 20 steps are logged. 4 evaluations; the last one in epoch 1 of 2. Best: `val/loss` 0.05 at step 20."
    )
    assert table(found, "Streams").rows == [
        ["clips", CONFIG["datasets"]["clips"]["store"], "funny, mood, tags, pitch", 80, 2.0]
    ]


def test_an_axis_whose_values_are_one_number_lies_around_it() -> None:
    assert around_one([0.5, None, 0.5, NAN]) == pytest.approx([0.45, 0.55])
    assert around_one([-20.0]) == [-22, -18]
    assert around_one([0.0]) == [-1, 1]
    assert around_one([0.5, 0.6]) is alt.Undefined
    assert around_one([None, NAN]) is alt.Undefined


def shown(drawn: Chart) -> list[str]:
    """What can be read in the picture of a chart: labels that lie over others are there, and transparent."""
    written = re.findall(r"<text([^>]*)>([^<]*)</text>", vl_convert.vegalite_to_svg(specification(drawn)))
    return [word for style, word in written if 'opacity="0"' not in style]


def test_a_line_that_is_level_stands_at_its_number() -> None:
    level = Line("text", np.array([0.0, 1]), np.array([0.175, 0.175]))
    words = shown(line_chart("t", "s", [level], x="level", y="accuracy", limits=Limits()))
    assert {"0.165", "0.175", "0.185"} <= set(words)  # Vega's own axis has one number, 0


def test_every_class_of_a_confusion_has_its_name_on_both_sides() -> None:
    names = [f"a class with a name of some length, {number}" for number in range(8)]
    shades = np.eye(8).tolist()
    drawn = heatmap("t", "s", rows=names, columns=names, shades=shades, row_title="label", column_title="prediction")
    assert len([word for word in shown(drawn) if word.startswith("a class with")]) == 16


def test_calibration_tells_its_curves_apart_by_one_legend(sections: dict[str, Section]) -> None:
    drawn = chart(sections["Calibration"], "funny, val")
    lines = [layer for layer in drawn.drawing["layer"] if layer["mark"]["type"] == "line"]
    assert [(line["mark"]["strokeDash"], line["transform"][0]["filter"]["equal"]) for line in lines] == [
        ([1, 0], "before"),
        ([7, 3], "after"),
    ]
    assert not any("strokeDash" in layer["encoding"] for layer in drawn.drawing["layer"])
    assert {"before", "after"} <= set(shown(drawn))


def test_curves_of_a_ranking_of_four(tmp_path: Path) -> None:
    """Labels 1, 0, 1, 0 from the most probable sample to the least."""
    item = replace(
        predictions("funny", "binary", num=4), labels=np.array([1.0, 0, 1, 0]), logits=np.array([4.0, 3, 2, 1], np.float32)
    )
    record = replace(read_run(write_run(tmp_path / "run")), predictions={"val": {"funny": item}})
    roc, precisions = (chart(ranking_section(record), f"funny, val: {name}").columns for name in ("ROC", "PR"))
    assert roc["false positive rate"] == [0, 0, 0.5, 0.5, 1]
    assert roc["true positive rate"] == [0, 0.5, 0.5, 1, 1]
    assert precisions["recall"] == [0.5, 0.5, 1, 1]
    assert precisions["precision"] == pytest.approx([1, 1 / 2, 2 / 3, 1 / 2])


def test_points_of_calibration_and_of_importance(sections: dict[str, Section]) -> None:
    points = chart(sections["Calibration"], "funny, val").columns
    assert points["temperature"] == ["before"] * 10 + ["after"] * 10
    assert points["mean probability"][:2] == pytest.approx([0.05, 0.15])
    assert points["share right"][:2] == pytest.approx([0.0, 0.1])
    assert set(points["samples"]) == {3}
    drop = chart(sections["Importance of modalities"], "funny, val").columns
    assert drop == {"name": ["text"], "drop": [0.2], "low": [-0.1], "high": [0.3]}


def test_the_summary_has_the_table_of_every_split_that_was_evaluated(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    found = json.loads((run / "evaluation" / "val.json").read_text())
    row = found["rows"][0] | {"value": 0.25, "num_groups": FEW_GROUPS}
    (run / "evaluation" / "test.json").write_text(json.dumps(found | {"split": "test", "step": 15, "rows": [row]}))
    summary = next(section for section in run_sections(read_run(run)) if section.title == "Summary")
    validation = table(summary, "val split, checkpoint of step 20")
    held_out = table(summary, "test split, checkpoint of step 15")
    assert validation.rows[0][3] == 0.75
    assert held_out.rows[0][3] == 0.25
    assert f"fewer than {FEW_GROUPS} groups" in validation.note
    assert f"fewer than {FEW_GROUPS} groups" not in held_out.note


def test_names_that_would_cover_each_other_stand_in_lines():
    """Lines of 13 pixels in 39 that are 3 units high: one unit. 480 pixels of x from 0 to 480, letters of 6 and two more."""

    def places(*points, names="abc"):
        return spread(points, names[: len(points)], extent=3.0, height=39)

    assert places((0, 1.0), (480, 1.0)) == [(0, 1.0), (480, 1.0)]
    assert places((0, 1.0), (0, 1.0)) == [(0, 1.0), (0, 0.0)]
    assert places((0, 1.0), (0, 1.0), (0, 1.0)) == [(0, 1.0), (0, 0.0), (0, -1.0)]
    assert places((0, 0.5), (0, 1.0), (0, 1.0)) == [(0, -1.0), (0, 1.0), (0, 0.0)]
    assert places((0, 1.0), (8, 5.0), (480, 9.0)) == [(8, 1.0), (8, 5.0), (480, 9.0)]  # beside the point that is next to it
    assert places((0, 1.0), (9, 5.0), (480, 9.0))[0] == (0, 1.0)
    assert places((0, 1.0), (480, 1.0), names=("x" * 78, "y")) == [(0, 1.0), (480, 1.0)]
    assert places((0, 1.0), (480, 1.0), names=("x" * 79, "y")) == [(0, 1.0), (480, 0.0)]


def test_a_legend_of_shapes_has_a_color_that_the_page_lightens():
    drawn = shape_legend(["a", "b"])
    assert drawn is not None
    assert drawn.to_dict()["symbolFillColor"] == NEUTRAL
    assert shape_legend(["a"]) is None
    style = (Path(drawing.__file__).parent / "page.css").read_text(encoding="utf-8")
    assert f'[fill="{NEUTRAL}"] {{ fill: var(--neutral)' in style
