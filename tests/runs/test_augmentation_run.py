"""Augmentation in runs: one batch whoever reads it and whenever, another in every pass, and only training sees it."""

import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lives import Write, cut, live, results
from test_processes_equal import assert_alike, double, float64, run_of

from mmtrain.curriculum.plan import WindowPlan
from mmtrain.curriculum.reports import WindowReport
from mmtrain.data.augment import augmentation
from mmtrain.data.batch import Batch
from mmtrain.engine import validation
from mmtrain.engine.current import current_losses
from mmtrain.engine.loading import Loader
from mmtrain.engine.run import Run
from mmtrain.engine.step import train_step
from mmtrain.engine.validation import predict
from mmtrain.evaluation.prediction_file import read_predictions
from mmtrain.tuning.worst_step import worst_batches

Build = Callable[..., Run]
Sample = tuple[bytes, ...]  # a sample's real rows, by modality
Seen = dict[tuple[int, int, int], list[Sample]]  # by (step, stream, index); two where a batch spans two passes
AUGMENTATION: dict[str, Any] = {
    "audio": {
        "masking": {"name": "time_masking", "max_share": 0.5},
        "bands": {"name": "feature_masking", "max_share": 0.4},
        "jitter": {"name": "time_jitter", "probability": 0.3},
        "noise": {"name": "gaussian_noise", "std": 0.5},
    },
    "video": {"noise": {"name": "gaussian_noise", "std": 3.0}},
    "text": {"words": {"name": "word_dropout", "probability": 0.4}},
}
FEATURES = {modality: AUGMENTATION[modality] for modality in ("audio", "video")}
STEPS = 12  # of 20 samples: more than two passes of each stream


def build(small_run: Build, tiny_bert: Path, **changes: Any) -> Run:
    """The small run with text, augmented, of batches that a plan gives without hearing of losses."""
    text = {"name": "transformers", "path": str(tiny_bert), "max_tokens": 12, "dropout": 0.0}
    curriculum = {"window": 4, "sampler": {"name": "uniform"}, "group_by_length": True}
    usual: dict[str, Any] = {"augmentation": AUGMENTATION, "model": {"text": text}, "curriculum": curriculum}
    return small_run(**{**usual, "batch": {"size": 20, "micro": None}, "training": {"eval_every": None}, **changes})


def plans_of(run: Run, *, stop: int = STEPS) -> list[WindowPlan]:
    """The plans of the run's windows from where its curriculum stands."""
    plans = []
    while run.curriculum.step < stop:
        plans.append(run.curriculum.next_window(run.curriculum.step, 4))
        run.curriculum.finish_window(WindowReport(step=plans[-1].stop_step, losses={}, counts={}))
    return plans


def read(run: Run, plans: list[WindowPlan], *, first: int = 0, world: int = 1, **reading: Any) -> Seen:
    """What `world` processes are given of the plans from step `first` on."""
    seen: Seen = {}
    shared: dict[str, Any] = {"streams": run.train_streams, "collate": run.loader.collate, "augment": run.loader.augment}
    for rank in range(world):
        loader = Loader(**shared, rank=rank, world=world, **reading)
        for plan in plans:
            for inputs in loader.steps(plan, first=max(first, plan.first_step)):
                for batch in inputs.micro_batches:
                    for place, sample in samples_of(batch):
                        seen.setdefault((inputs.step, *place), []).append(sample)
    return {key: sorted(found) for key, found in seen.items()}


def samples_of(batch: Batch) -> Iterator[tuple[tuple[int, int], Sample]]:
    """(stream, index) and the real rows of each."""
    for row, place in enumerate(zip(batch.stream.tolist(), batch.index.tolist(), strict=True)):
        yield place, tuple(item.values[row][item.mask[row]].numpy().tobytes() for item in batch.inputs.values())


def check_reading(run: Run, plans: list[WindowPlan]) -> Seen:
    """However the plans are read, the samples are the same, bit for bit."""
    whole = read(run, plans, prefetch=0)
    assert sum(map(len, whole.values())) == STEPS * 20
    for world, micro, prefetch in ((1, None, 2), (1, 3, 9), (2, None, 0), (3, 2, 2)):
        assert read(run, plans, world=world, micro=micro, prefetch=prefetch) == whole, (world, micro, prefetch)
    return whole


def check_passes(whole: Seen) -> None:
    """A sample that comes again is another one, in every modality that noise is added to."""
    times: dict[tuple[int, int], list[Sample]] = {}
    for (_, *place), found in whole.items():
        times.setdefault((place[0], place[1]), []).extend(found)
    assert max(map(len, times.values())) > 2
    for samples in times.values():
        _, *modalities = zip(*samples, strict=True)  # text goes by chance
        assert all(len(set(values)) == len(values) for values in modalities if values[0])


def test_whoever_reads_whenever_gives_one_sample_in_one_pass(small_run: Build, tiny_bert: Path) -> None:
    run = build(small_run, tiny_bert)
    plans = plans_of(run, stop=8)
    state, arrays = run.curriculum.state_dict(), run.curriculum.arrays()
    plans += plans_of(run)
    whole = check_reading(run, plans)
    check_passes(whole)
    resumed = build(small_run, tiny_bert)
    resumed.curriculum.load_state_dict(state, arrays)
    late = read(resumed, plans_of(resumed), first=10)  # inside the third window, in the middle of a pass
    assert late == {key: found for key, found in whole.items() if key[0] >= 10}
    clean = read(build(small_run, tiny_bert, augmentation={}), plans)
    assert clean.keys() == whole.keys()
    assert sum(found == whole[key] for key, found in clean.items()) < 20, "as in the store: a few with neither rows nor luck"


@pytest.mark.parametrize("mutation", ["without the pass", "one generator"])
def test_other_random_numbers_would_be_seen(
    small_run: Build, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch, mutation: str
) -> None:
    """Controls of both checks."""
    run = build(small_run, tiny_bert)
    plans, keyed, shared = plans_of(run), augmentation.keyed_generator, np.random.default_rng(0)
    if mutation == "without the pass":
        monkeypatch.setattr(augmentation, "keyed_generator", lambda seed, *key: keyed(seed, *key[:2], *key[3:]))
        whole = check_reading(run, plans)
        with pytest.raises(AssertionError):
            check_passes(whole)
    else:
        monkeypatch.setattr(augmentation, "keyed_generator", lambda *_: shared)
        with pytest.raises(AssertionError):
            check_reading(run, plans)


def test_stores_are_never_written_to(small_run: Build, tiny_bert: Path, run_stores: Path) -> None:
    run = build(small_run, tiny_bert)
    files = [file for file in sorted(run_stores.rglob("*")) if file.is_file()]
    before = [file.read_bytes() for file in files]
    rows = {name: stream.store.rows("audio", int(stream.indices[0])) for name, stream in enumerate(run.train_streams)}
    assert all(not values.flags.writeable for values in rows.values())
    in_memory = [stream.store.rows("audio", index).copy() for stream in run.train_streams for index in stream.indices]
    read(run, plans_of(run))
    after = [stream.store.rows("audio", index) for stream in run.train_streams for index in stream.indices]
    assert all(np.array_equal(one, other) for one, other in zip(in_memory, after, strict=True))
    assert [file.read_bytes() for file in files] == before


@pytest.fixture
def pair(small_run: Build) -> tuple[Run, Run]:
    """The small run augmented and clean, otherwise equal."""
    return small_run(augmentation=FEATURES), small_run()


def test_their_training_differs(pair: tuple[Run, Run]) -> None:
    """Control of the tests below."""
    objectives = []
    for run in pair:
        inputs = next(iter(run.loader.steps(run.curriculum.next_window(0, 4), first=0)))
        objectives.append(float(train_step(run, inputs)[0].objective))
    assert objectives[0] != objectives[1]


@pytest.mark.parametrize("split", ["val", "train"], ids=["evaluation", "train_predictions"])
def test_what_is_evaluated_is_clean(pair: tuple[Run, Run], split: str) -> None:
    found, expected = (predict(run, run.val_streams if split == "val" else run.train_streams, name="any") for run in pair)
    for one, other in zip(found, expected, strict=True):
        assert one.ids.tolist() == other.ids.tolist()
        assert one.logits.tobytes() == other.logits.tobytes()


def test_the_predictions_of_training_samples_on_disk_are_clean(pair: tuple[Run, Run]) -> None:
    for run in pair:
        validation.predict_training(run, 10)
    first, second = (read_predictions(run.folder.train_predictions(1)) for run in pair)
    assert {task: item.logits.tobytes() for task, item in first.items()} == {
        task: item.logits.tobytes() for task, item in second.items()
    }


def test_what_pacing_asks_for_is_clean(pair: tuple[Run, Run]) -> None:
    positions = {"clips": np.arange(30), "calls": np.arange(3, 9)}
    found, expected = (current_losses(run, positions) for run in pair)
    assert {name: losses.tobytes() for name, losses in found.items()} == {
        name: losses.tobytes() for name, losses in expected.items()
    }


def test_the_worst_step_is_clean(pair: tuple[Run, Run]) -> None:
    found, expected = ([list(samples_of(batch)) for batch in worst_batches(run, 5)] for run in pair)
    assert found == expected


def test_both_views_of_r_drop_are_of_one_augmented_sample(small_run: Build) -> None:
    run = small_run(augmentation=FEATURES, regularizers={"drop": {"name": "r_drop", "strength": 1.0}}, batch={"micro": None})
    inputs = next(iter(run.loader.steps(run.curriculum.next_window(0, 4), first=0)))
    given: list[Any] = []
    handle = run.model.register_forward_pre_hook(lambda _, arguments: given.append(arguments[0]))
    train_step(run, inputs)
    handle.remove()
    batch = inputs.micro_batches[0]
    assert len(given) == 1
    for name, item in given[0].items():
        halves = item.values.chunk(2)
        assert len(item.values) == 2 * len(batch)
        assert all(torch.equal(half, batch.inputs[name].values) for half in halves)


@pytest.mark.slow
def test_two_processes_and_micro_batches_train_as_one(write_experiment: Write) -> None:
    write = float64(write_experiment)
    one = run_of(write, "one", patch=double, augmentation=FEATURES)
    both = run_of(write, "both", world=2, patch=double, batch={"micro": 3}, augmentation=FEATURES)
    assert_alike(one, both, tolerance=1e-12)
    with pytest.raises(AssertionError):
        assert_alike(one, run_of(write, "clean", patch=double), tolerance=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("at", [4, 12])
def test_a_run_that_was_killed_resumes_to_the_same_bits(write_experiment: Write, at: int) -> None:
    file = write_experiment(augmentation=AUGMENTATION)
    train = ["train", "--config", str(file)]
    whole = live([*train, "name=whole", "batch.prefetch=0"], cwd=file.parent)
    assert whole.code == 0, whole.err
    kill = partial(cut, at=at, how=signal.SIGKILL)
    assert live([*train, "name=parted"], cwd=file.parent, patch=kill).code == -signal.SIGKILL
    again = live([*train, "name=parted", "--resume"], cwd=file.parent)
    assert again.code == 0, again.err
    expected, found = (results(file.parent / "runs" / name) for name in ("whole", "parted"))
    for result in (expected, found):
        result.pop("state")  # it holds the config, whose prefetch differs
    assert found == expected


def test_another_augmentation_is_another_run(pair: tuple[Run, Run]) -> None:
    first, second = (run.identity["config"] for run in pair)
    assert first["augmentation"]["video"]["noise"] == {"name": "gaussian_noise", "std": 3.0}
    assert second["augmentation"] == {}
