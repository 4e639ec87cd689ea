"""Every reading of the test split, so that a reader knows how often it was looked at."""

from mmtrain.report.parts import DataTable, Missing, Part, Section
from mmtrain.report.run_record import RunRecord

_TITLE = "Test reads"


def readings_section(record: RunRecord) -> Section:
    """A row for each line of test_reads.jsonl."""
    reads = record.values("test_reads.jsonl")
    if not reads:
        if record.run.predictions("test").is_file():
            return Section(_TITLE, [Missing("The test split was read, but nobody wrote down when")])
        return Section(
            _TITLE,
            ["Nobody has read the test split of this run.", Missing("To read it", record.command("evaluate --split test"))],
        )
    header = list(dict.fromkeys(name for read in reads for name in read))
    rows = [[str(read.get(name, "")) for name in header] for read in reads[-record.limits.rows :]]
    parts: list[Part] = [f"The test split was read {len(reads):,} time{'s' if len(reads) > 1 else ''}."]
    return Section(_TITLE, [*parts, DataTable(title="Readings", header=header, rows=rows)])
