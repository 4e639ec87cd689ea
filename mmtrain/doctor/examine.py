"""`mmtrain doctor`: build a run as `train` would, make every check, print what each finds, and leave nothing behind."""

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from accelerate import Accelerator

from mmtrain.build import build_run
from mmtrain.config import Experiment, load_experiment
from mmtrain.config_errors import nearest
from mmtrain.doctor import CHECKS
from mmtrain.doctor.case import Case
from mmtrain.doctor.finding import SEVERITIES, Finding, worst
from mmtrain.doctor.unlabelled import find_unlabelled
from mmtrain.engine.console import lasting_console
from mmtrain.errors import ConfigError, UserError
from mmtrain.training import build_accelerator


def examine(
    file: Path, overrides: Sequence[str] = (), *, only: Sequence[str] = (), seconds: float = 60.0, out: Path | None = None
) -> list[Finding]:
    """Make the checks (`only` these, if any are named) in about `seconds`, and print what they find; `out`: as JSON too.

    No folder, lock or tracker is touched. Errors: ConfigError for an unknown check, several processes, or what `train` would
    refuse.
    """
    for name in only:
        if name not in CHECKS:
            raise ConfigError(f"--only {name}: there is no such check{nearest(name, CHECKS)}")
    if out is not None and not out.parent.is_dir():
        raise ConfigError(f"--json {out}: there is no folder {out.parent}; make it, or write another")
    experiment = as_examined(load_experiment(file, list(overrides)))
    accelerator = build_accelerator(experiment)
    if accelerator.num_processes > 1:
        raise ConfigError("doctor looks at a run in one process: start `mmtrain doctor` without accelerate launch")
    findings, console = [], lasting_console()  # whose exit code says what was found
    for finding in _findings(experiment, accelerator, only=only, seconds=seconds):
        findings.append(finding)
        for line in finding.lines():
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(summary(findings), markup=False, highlight=False)
    if out is not None:
        record = {
            "experiment": experiment.name,
            "worst": worst(findings),
            "findings": [asdict(finding) for finding in findings],
        }
        out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    accelerator.end_training()
    return findings


def _findings(experiment: Experiment, accelerator: Accelerator, *, only: Sequence[str], seconds: float) -> Iterator[Finding]:
    """Of the checks in turn; before them, what hinders the run for want of labels, without which it is then examined."""
    refusal: UserError | None = None
    try:
        run = build_run(experiment, accelerator, None, on_disk=False)
    except UserError as error:
        refusal = error.with_traceback(None)  # which would hold what was built so far
    if refusal is not None:
        labelled = find_unlabelled(experiment)
        if not labelled.findings:
            raise refusal
        yield from labelled.findings
        if labelled.experiment is None:
            return
        experiment = labelled.experiment
        try:
            run = build_run(experiment, accelerator, None, on_disk=False, val_streams=labelled.val_streams)
        except UserError as error:
            words = f"no other check is made: without these the run cannot be built: {error}"
            yield Finding("label_balance", "note", words, "mend what stands above")
            return
    with closing(run):
        case = Case(experiment, run, seconds=seconds)
        for name in [name for name in CHECKS if name in only or not only]:
            yield from perform(name, case)


def as_examined(experiment: Experiment) -> Experiment:
    """The same, its texts read by their encoder, since making a cache would leave one behind; and not compiled, for what is
    asked of single modules.
    """
    training = experiment.training.model_copy(update={"compile": False})
    text = experiment.model.text
    text = text if text is None else text.model_copy(update={"cache": False})
    model = experiment.model.model_copy(update={"text": text})
    return experiment.model_copy(update={"model": model, "training": training})


def perform(name: str, case: Case) -> list[Finding]:
    """What one check finds; what it cannot go past, such as a NaN in a sample or a shape that does not fit, is found."""
    try:
        return CHECKS[name](case)
    except UserError as error:
        return [Finding(name, "problem", str(error), "mend what the message names; the check ended there")]
    except (RuntimeError, ValueError) as error:  # of torch, or of a component that does not keep its contract
        words = f"a step fails with {type(error).__name__}: {error}"
        return [Finding(name, "problem", words, "mmtrain train --config CONFIG shows where; the check ended there")]


def summary(findings: Sequence[Finding]) -> str:
    """`1 problem, 2 warnings, 0 notes`."""
    counts = {severity: sum(finding.severity == severity for finding in findings) for severity in reversed(SEVERITIES[1:])}
    return ", ".join(f"{count} {severity}{'' if count == 1 else 's'}" for severity, count in counts.items())
