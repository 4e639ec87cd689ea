"""The report of a run: its sections in order, in one file that is small whatever the run was."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from mmtrain.engine.run_folder import write_whole
from mmtrain.report.attention import attention_section
from mmtrain.report.breakdown import breakdown_section
from mmtrain.report.charts import Limits
from mmtrain.report.confusion import confusion_section
from mmtrain.report.costs import cost_section
from mmtrain.report.data_map import data_map_section
from mmtrain.report.decisions import curriculum_section
from mmtrain.report.learning import learning_section
from mmtrain.report.modalities import importance_section, robustness_section
from mmtrain.report.optimization import gradient_section, rate_section
from mmtrain.report.page import render_page
from mmtrain.report.parts import Section
from mmtrain.report.ranking import ranking_section
from mmtrain.report.readings import readings_section
from mmtrain.report.reliability import calibration_section
from mmtrain.report.run_record import RunRecord, read_run
from mmtrain.report.summary import provenance, summary_section
from mmtrain.report.worst import worst_section

MOST_BYTES = 5_000_000
SECTIONS: tuple[Callable[[RunRecord], Section], ...] = (
    summary_section,
    learning_section,
    curriculum_section,
    gradient_section,
    rate_section,
    cost_section,
    confusion_section,
    ranking_section,
    calibration_section,
    robustness_section,
    importance_section,
    data_map_section,
    worst_section,
    breakdown_section,
    attention_section,
    readings_section,
)


def write_report(folder: Path, out: Path | None = None) -> Path:
    """Write the report of a run, into its folder as report.html or elsewhere; returns the file.

    Errors: ConfigError where the folder is no run, DataError where predictions are damaged.
    """
    record = read_run(folder)
    file = out or folder / "report.html"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, report_page(record))
    return file


def run_sections(record: RunRecord) -> list[Section]:
    """All sections of a run's page, in order."""
    return [section(record) for section in SECTIONS]


def report_page(record: RunRecord) -> str:
    """The page, below `MOST_BYTES`: curves, clouds and tables are thinned until it is."""
    limits = Limits()
    while True:
        thinned = replace(record, limits=limits)
        page = render_page(title=record.name, provenance=provenance(record), sections=run_sections(thinned))
        if len(page.encode()) < MOST_BYTES or limits.points < 20:
            return page
        limits = limits.halved()
