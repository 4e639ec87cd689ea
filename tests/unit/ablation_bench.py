"""A matrix whose runs take no time: what training would leave is written by a few lines of Python."""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from mmtrain.ablation.plan import Plan, PlannedRun, read_plan
from mmtrain.ablation.processes import Job
from mmtrain.engine.code_version import code_now
from mmtrain.errors import CheckpointError

EXPERIMENT = {
    "name": "base",
    "datasets": {"a": {"store": "a"}},
    "streams": {"a": {"dataset": "a", "tasks": ["t"]}},
    "model": {"dim": 8, "sequences": {"audio": {"name": "linear"}}},
}
AXES = {"fusion": {name: {"model.fusion": {"name": name}} for name in ("concat", "sum", "mean")}}
# what training would leave: two evaluations, of which the first was the best; a window that a killed run made twice; epochs,
# whose seconds are those of their windows
RUN = """
import json, pathlib, shutil, sys
folder, how = pathlib.Path(sys.argv[1]), json.loads(pathlib.Path(sys.argv[2]).read_text())
matrix = folder.parent.parent
shutil.copy(matrix / "ablation.md", matrix / ("seen-%s-%s.md" % (folder.parent.name[:3], folder.name)))
if how.get("fails"): sys.exit("first\\n" + how["fails"])
folder.mkdir(parents=True, exist_ok=True)
(folder / "config.yaml").touch()
(folder / "environment.json").write_text(json.dumps([how["environment"]]))
metrics = [{"kind": "evaluation", "step": step, "best": best, "metrics": {"val/t/mae": value, "val/loss": 2 * (value or 0)}}
    for step, best, value in ((1, True, how["value"]), (2, False, 9.0))]
windows = [{"kind": "window", "step": step, "seconds": seconds, "samples_per_second": rate}
    for step, seconds, rate in ((1, 5.0, 90.0), (2, 70.0, 1.0), (2, 7.0, 10.0), (3, 1.0, 50.0))]
epochs = [{"kind": "epoch", "step": step, "seconds": seconds, "samples_per_second": 9.0, "peak_memory_mib": peak}
    for step, seconds, peak in ((2, 12.0, 7.0), (3, 1.0, 6.5))]
for name, records in (("metrics", metrics), ("timing", [*windows[:3], epochs[0], windows[3], epochs[1]])):
    (folder / (name + ".jsonl")).write_text("".join(json.dumps(record) + "\\n" for record in records))
(folder / "how").write_text(sys.argv[3])
"""
TEST = """
import json, pathlib, sys
(pathlib.Path(sys.argv[1]) / "evaluation").mkdir(exist_ok=True)
values = {"step": 4, "metrics": {"test/t/mae": float(sys.argv[2]), "test/loss": 1.0}}
(pathlib.Path(sys.argv[1]) / "evaluation" / "test.json").write_text(json.dumps(values))
"""


class Bench:
    """A matrix whose runs are made by a few lines of Python; `values` by variant and seed, `fails` by variant."""

    def __init__(self, root: Path) -> None:
        self.root, self.values, self.fails, self.file = root, {}, set(), root / "trial.yaml"
        self.last_words = "last words"
        (root / "base.yaml").write_text(yaml.safe_dump(EXPERIMENT | {"runs": str(root / "runs")}))
        self.write()

    def write(self, **changes: Any) -> None:
        values: dict[str, Any] = {"name": "trial", "experiment": "base.yaml", "axes": AXES, "seeds": [0, 1]}
        values |= {"baseline": {"fusion": "concat"}, "metric": "val/t/mae", "also": ["val/loss"]} | changes
        self.file.write_text(yaml.safe_dump(values, sort_keys=False))

    @property
    def plan(self) -> Plan:
        return read_plan(self.file)

    @property
    def folder(self) -> Path:
        return self.root / "runs" / "trial"

    def run(self, name: str, seed: int = 0) -> Path:
        return next(run.folder.path for run in self.plan.runs if (run.variant.name, run.seed) == (name, seed))

    def command(self, _: Plan, run: PlannedRun, *, overwrite: bool) -> tuple[str, ...]:
        parameters = {"total": 1000, "trained": 10}
        how = {
            "value": self.values.get((run.variant.name, run.seed), 1.0),
            "fails": self.last_words if run.variant.name in self.fails else "",
            "environment": code_now() | {"parameters": parameters},
        }
        mode = "anew" if overwrite else "on"
        order = self.root / f"{run.variant.id}-{run.seed}.json"
        order.write_text(json.dumps(how))
        return (sys.executable, "-S", "-c", RUN, str(run.folder.path), str(order), mode)

    def json(self) -> dict[str, Any]:
        return json.loads((self.folder / "ablation.json").read_text())

    def variant(self, name: str) -> dict[str, Any]:
        return next(row for row in self.json()["variants"] if row["variant"] == name)


def fake_reading(plan: Plan, run: PlannedRun) -> Job:
    command = (sys.executable, "-S", "-c", TEST, str(run.folder.path), str(1 + run.seed))
    return Job(run.label, command, run.folder.path, plan.folder / "logs" / "test.log")


def finished(experiment: Any) -> bool:
    if (experiment.folder / "misfit").exists():
        raise CheckpointError(
            "cannot resume, the run was made with other settings:\n  batch.size: was 7, is 32\n"
            f"  stores.a: was '{'1a' * 32}', is '{'2b' * 32}'\nPut them back"
        )
    return (experiment.folder / "how").exists()


def begun(text: str) -> list[str]:
    return [line.split("-")[0] + line.split("/seed")[1][:2] for line in text.splitlines() if ": begins, log " in line]
