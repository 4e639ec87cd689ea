"""What a run should not keep to itself when it ends: that it ended early, and what it never trained."""

from collections.abc import Iterator

from mmtrain.engine.jsonl import read_jsonl
from mmtrain.engine.run import Run
from mmtrain.engine.state import RunState


def ending_notes(run: Run, state: RunState) -> Iterator[str]:
    """Sentences for a run that `fit` has brought to its end; none where all went by the plan."""
    total, patience = run.settings.total_steps, run.settings.patience
    if state.step < total:
        is_gainless = patience is not None and state.selection.evaluations_without_gain >= patience
        why = f"no gain in {patience} evaluations" if is_gainless else "the streams cannot fill another batch"
        key = "selection.patience" if is_gainless else "curriculum.exhausted"
        yield f"the run ended at step {state.step} of {total}: {why} ({key})"
    trained: set[str] = set()
    drawn: set[str] = set()
    for record in read_jsonl(run.folder.curriculum):
        trained |= set(record["active"])
        drawn |= {stream for stream, count in record["counts"].items() if count}
    left = {
        "task": [task for task in run.heads if task not in trained],
        "stream": [stream.name for stream in run.train_streams if stream.name not in drawn],
    }
    for kind, names in left.items():
        if names:
            verb = "trained" if kind == "task" else "drawn from"
            yield f"warning: never {verb}: {kind}{'s' * (len(names) > 1)} {', '.join(names)}"
    if run.folder.bad_samples.is_file():
        count = sum(1 for _ in read_jsonl(run.folder.bad_samples))
        yield f"warning: {count} bad sample{'s' * (count > 1)} left out, named in {run.folder.bad_samples}"
