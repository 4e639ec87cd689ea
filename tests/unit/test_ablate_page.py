"""The page of a matrix."""

import re
import shutil
from dataclasses import replace

import pytest
from ablation_bench import AXES, Bench

from mmtrain.ablation import report, status
from mmtrain.ablation.ablate import ablate, tabulate
from mmtrain.ablation.contents import build_report
from mmtrain.report import has_report
from mmtrain.report.parts import Chart

GRID = [(name, rate) for name in ("concat", "sum", "mean") for rate in ("low", "high")]
CORNERS = ("concat-low", "concat-high", "sum-low", "sum-high")


def test_the_page_is_written_behind_every_run(bench: Bench) -> None:
    ablate(bench.file)
    seen = {seed: (bench.folder / f"seen-{name}-seed-{seed}.md").read_text() for name, seed in (("con", 0), ("con", 1))}
    assert "0 of 6 runs finished" in seen[0]
    assert f"- {bench.run('concat').parent.name}/seed-0: not begun" in seen[0]
    assert "1 of 6 runs finished" in seen[1]
    assert "5 of 6 runs finished" in (bench.folder / "seen-mea-seed-1.md").read_text()


def test_the_page_shows_what_is_there_and_what_is_missing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """While runs are out, with hostile words in a log; then with all of them: effects, two axes, costs, curves."""
    rates = {"low": {}, "high": {"training.optimizer.lr": 0.1}}
    baseline = {"fusion": "concat", "rate": "low"}
    bench.write(seeds=[0, 1, 2], axes={"fusion": AXES["fusion"], "rate": rates}, baseline=baseline)
    bench.fails = {"sum-high"}
    bench.last_words = "<script>alert(1)</script>"
    assert not ablate(bench.file)
    monkeypatch.setattr(report, "has_report", lambda: True)
    tabulate(bench.file)
    page = (bench.folder / "ablation.html").read_text()
    assert "15 of 18 runs finished" in page
    assert "failed: &lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "alert(1)</script>" not in page
    assert 'id="open-ends"' in page
    bench.fails = set()
    bench.values = {(f"{name}-{rate}", seed): number + seed for number, (name, rate) in enumerate(GRID) for seed in range(3)}
    shutil.rmtree(bench.folder)
    monkeypatch.setattr(report, "has_report", lambda: False)  # not behind each of eighteen runs
    assert ablate(bench.file)
    monkeypatch.setattr(report, "has_report", lambda: True)
    tabulate(bench.file)
    page = (bench.folder / "ablation.html").read_text()
    for title in ("Main effect of fusion", "Main effect of rate", "Interaction of fusion and rate", "Every run"):
        assert title in page
    assert "val/t/mae over training time" not in page, "all took the same time"
    assert "The best is concat (1.5)" in page  # 0 and 1 of the two rates, and the seeds 0, 1, 2: lower is better
    assert "axes:" in page, "the matrix itself"
    sections = re.findall(r'<section id="([^"]*)"', page)
    assert sections == ["variants", "effects", "cost-and-quality", "learning-curves", "runs"]


def test_curves_are_of_the_baseline_and_the_best_others(bench: Bench) -> None:
    """Ten variants, of which the baseline is the worst: eight can be told apart."""
    from mmtrain.ablation.page_charts import curve_charts  # of the extra `report`

    rates = {f"rate-{number}": {"training.optimizer.lr": 10.0**-number} for number in range(10)}
    bench.write(axes={"rate": rates}, baseline={"rate": "rate-0"}, seeds=[0])
    bench.values = {(f"rate-{number}", 0): 1.0 / (1 + number) for number in range(10)}
    ablate(bench.file)
    chart = next(iter(curve_charts(build_report(bench.plan, status.statuses(bench.plan)))))
    assert set(chart.columns["variant"]) == {"rate-0", *(f"rate-{number}" for number in range(3, 10))}
    assert chart.summary.endswith("The baseline and the best of the others: 2 more are left out.")


def test_names_beside_points_stand_apart(bench: Bench) -> None:
    """Three variants of one error and of costs that differ little: each name has its own line, and its point its place."""
    from mmtrain.ablation.page_charts import cost_charts  # of the extra `report`

    bench.write(seeds=[0])
    ablate(bench.file)
    found = build_report(bench.plan, status.statuses(bench.plan))
    assert list(cost_charts(found)) == []
    costs = [replace(row.cost, seconds=100.0 + number % 2) for number, row in enumerate(found.rows) if row.cost is not None]
    rows = [replace(row, cost=cost) for row, cost in zip(found.rows, costs, strict=True)]
    (chart,) = cost_charts(replace(found, rows=rows))
    assert isinstance(chart, Chart)
    assert chart.columns["val/t/mae"] == [1.0, 1.0, 1.0]
    assert chart.columns["name from"] == [100.0, 101.0, 100.0]
    assert chart.columns["name at"] == pytest.approx([1.0, 1.0, 1.0 - 13 / 300])


def test_the_better_of_two_axes_is_darker_and_so_is_what_is_left_of_either_sign(bench: Bench) -> None:
    """Errors 0, 1; 2, 5: lower is better. Means of rows 0.5, 3.5, of columns 1, 3, of all 2 leave 0.5, -0.5; -0.5, 0.5."""
    from mmtrain.ablation.effect_charts import interaction_charts  # of the extra `report`

    fusions = {name: AXES["fusion"][name] for name in ("concat", "sum")}
    rates = {"low": {}, "high": {"training.optimizer.lr": 0.1}}
    bench.write(seeds=[0], axes={"fusion": fusions, "rate": rates}, baseline={"fusion": "concat", "rate": "low"})
    bench.values = {(name, 0): value for name, value in zip(CORNERS, (0.0, 1.0, 2.0, 5.0), strict=True)}
    ablate(bench.file)
    means, left = interaction_charts(build_report(bench.plan, status.statuses(bench.plan)))
    assert means.columns["val/t/mae"] == [0.0, 1.0, 2.0, 5.0]
    assert means.columns["shade"] == pytest.approx([1.0, 0.8, 0.6, 0.0])
    assert left.columns["left"] == pytest.approx([0.5, -0.5, -0.5, 0.5])
    assert left.columns["shade"] == pytest.approx([1.0] * 4)


def test_without_the_extra_the_page_is_left_out_and_that_is_said_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(report, "has_report", has_report)
    monkeypatch.setattr("mmtrain.report._PACKAGES", ("altair", "a_package_that_is_not_there"))
    assert ablate(bench.file)
    assert not (bench.folder / "ablation.html").exists()
    assert capsys.readouterr().out.count("the page with charts is left out: pip install 'mmtrain[report]'") == 1
