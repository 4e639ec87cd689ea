"""What the run is, what it reached, and where it comes from."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmtrain.evaluation.statistics import FEW_GROUPS
from mmtrain.report.parts import Cell, Code, DataTable, Missing, Part, Section, Value
from mmtrain.report.run_log import Record
from mmtrain.report.run_record import HELD_OUT, RunRecord

_MOST_TEXT = 100_000  # characters of a config or a diff


def provenance(record: RunRecord) -> str:
    """The line below the page's title."""
    start = record.starts[-1]
    git, versions = start.get("git", {}), start.get("versions", {})
    changed = " with uncommitted changes" if git.get("diff") else ""
    commit = f"commit `{git['commit'][:10]}`{changed}" if git.get("commit") else "no commit known"
    starts = f", started {len(record.starts)} times" if len(record.starts) > 1 else ""
    made = f"mmtrain {versions.get('mmtrain')}, torch {versions.get('torch')}"
    machine = f"{start.get('processes')} process(es) on {start.get('device')}, {start.get('precision')}"
    return f"{commit}; {made}; {machine}; seed {start.get('seed')}{starts}; `{record.run.path}`"


def summary_section(record: RunRecord) -> Section:
    parts: list[Part] = [_state(record), *_results(record), _stream_table(record), _setting_table(record)]
    if record.log.evaluations:
        parts.append(_metric_table(record.log.evaluations))
    parts += [*_left_out(record), *_sources(record)]
    return Section("Summary", parts)


def _state(record: RunRecord) -> str:
    training = record.config["training"]
    step, evaluations = record.log.last_step, record.log.evaluations
    per_epoch = training["steps_per_epoch"]
    total = f" of {training['epochs'] * per_epoch:,}" if per_epoch else ""
    words = [f"{step:,}{total} steps are logged."]
    if evaluations:
        selection, metric = evaluations[-1]["selection"], record.config["selection"]["metric"]
        best = next((item for item in reversed(evaluations) if item["best"]), None)
        words.append(
            f"{len(evaluations):,} evaluations; the last one in epoch {evaluations[-1]['epoch']} of {training['epochs']}."
        )
        if best is not None:
            words.append(f"Best: `{metric}` {_form(best['metrics'].get(metric))} at step {best['step']:,}.")
        if training.get("patience") and selection.get("evaluations_without_gain"):
            words.append(f"{selection['evaluations_without_gain']} evaluations without gain since.")
    return " ".join(words)


def _form(value: float | None, form: str = ".4g") -> str:
    return "-" if value is None else format(value, form)


def _results(record: RunRecord) -> Iterator[Part]:
    """The tables of `mmtrain evaluate`, with intervals, of the splits that it was asked for."""
    for split in reversed(HELD_OUT):
        values = record.values(f"evaluation/{split}.json")
        if values is not None:
            yield _result_table(split, values)
        elif split == "val":
            yield Missing("Validation metrics with intervals and baselines", record.command("evaluate --split val"))


def _result_table(split: str, values: Mapping[str, Any]) -> DataTable:
    rows: list[list[Value | Cell]] = []
    for row in values["rows"]:
        interval = f"[{_form(row['low'], '.3f')}, {_form(row['high'], '.3f')}]"
        names = [row["task"], row["stream"], row["metric"]]
        rows.append(
            [*names, row["value"], Cell(interval, row["low"]), row["baseline"], row["num_samples"], row["num_groups"]]
        )
    header = ("task", "stream", "metric", "value", "95 % interval", "baseline", "samples", "groups")
    note = "Intervals: bootstrap over groups. Baseline: the constant that the training labels give."
    if any(row["num_groups"] < FEW_GROUPS for row in values["rows"]):
        note += f" An interval over fewer than {FEW_GROUPS} groups rests on these few."
    title = f"{split} split, checkpoint of step {values['step']:,}"
    return DataTable(title=title, header=header, rows=rows, formats={"value": ".3f", "baseline": ".3f"}, note=note)


def _metric_table(evaluations: Sequence[Record]) -> DataTable:
    """Every metric of the best evaluation, training beside validation."""
    chosen = next((item for item in reversed(evaluations) if item["best"]), evaluations[-1])
    found: dict[tuple[str, str, str], dict[str, float | None]] = {}
    for name, value in chosen["metrics"].items():
        split, *rest = name.split("/")
        if len(rest) == 2:
            task, _, stream = rest[0].partition("@")
            found.setdefault((task, stream or "all", rest[1]), {})[split] = value
    splits = list(dict.fromkeys(split for values in found.values() for split in values))
    rows = [[*names, *(values.get(split) for split in splits)] for names, values in found.items()]
    title = f"Every metric of the evaluation at step {chosen['step']:,}"
    formats = dict.fromkeys(splits, ".4f")
    return DataTable(title=title, header=("task", "stream", "metric", *splits), rows=rows, formats=formats)


def _stream_table(record: RunRecord) -> DataTable:
    drawn: dict[str, int] = {}
    for window in record.log.windows:
        for name, count in window["counts"].items():
            drawn[name] = drawn.get(name, 0) + count
    passes = record.log.windows[-1]["passes"] if record.log.windows else {}
    rows = [
        [
            name,
            record.config["datasets"][entry["dataset"]]["store"],
            ", ".join(entry["tasks"]),
            drawn.get(name, 0),
            passes.get(name),
        ]
        for name, entry in record.config["streams"].items()
    ]
    header = ("stream", "store", "tasks", "samples drawn", "passes")
    return DataTable(title="Streams", header=header, rows=rows, formats={"passes": ".2f"})


def _setting_table(record: RunRecord) -> DataTable:
    """The choices that tell runs apart; all of them stand in config.yaml below."""
    config, start = record.config, record.starts[-1]
    model, curriculum, training = config["model"], config["curriculum"], config["training"]
    parameters = start.get("parameters", {})
    encoders = [
        f"{name}: {entry['name']}" for group in ("sequences", "images") for name, entry in (model.get(group) or {}).items()
    ]
    text = [f"text: {model['text']['name']}"] if model.get("text") else []
    rows = [
        ("encoders", ", ".join([*text, *encoders])),
        ("fusion, pooling", f"{model['fusion']['name']}, {model['pooling']['name']}"),
        ("parameters", f"{parameters.get('total', 0):,}, of which {parameters.get('trained', 0):,} are trained"),
        *((key, value["name"]) for key, value in curriculum.items() if isinstance(value, dict) and "name" in value),
        ("batch", f"{config['batch']['size']} samples"),
        ("optimizer", f"{training['optimizer']['name']}, learning rate {training['optimizer'].get('lr')}"),
        ("schedule of the learning rate", training["schedule"]["name"]),
        ("epochs", str(training["epochs"])),
        ("hardware", _hardware(start.get("hardware", {}))),
        ("command", " ".join(start.get("command", []))),
    ]
    return DataTable(title="Settings", header=("setting", "value"), rows=rows)


def _hardware(hardware: Mapping[str, Any]) -> str:
    gpus = ", ".join(hardware.get("gpus") or []) or "no GPU"
    return f"{hardware.get('cpus')} CPU cores ({hardware.get('machine')}), {gpus}"


def _left_out(record: RunRecord) -> Iterator[Part]:
    samples = record.values("bad_samples.jsonl")
    if samples:
        rows = [[str(entry.get(key, "")) for key in samples[0]] for entry in samples[: record.limits.rows]]
        title = f"{len(samples):,} samples left out"
        yield DataTable(title=title, header=tuple(samples[0]), rows=rows, note="All of them: `bad_samples.jsonl`.")


def _sources(record: RunRecord) -> Iterator[Part]:
    yield Code("config.yaml", _cut(record.run.config.read_text(encoding="utf-8")))
    without = [
        {**start, "git": {**start.get("git", {}), "diff": bool(start.get("git", {}).get("diff"))}} for start in record.starts
    ]
    yield Code("environment.json: every start of the run", _cut(json.dumps(without, indent=1)))
    diff = record.starts[-1].get("git", {}).get("diff")
    if diff:
        yield Code("Uncommitted changes of the code", _cut(diff))


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]}\n... {len(text) - _MOST_TEXT:,} more characters"
