"""A run's model as one of its checkpoints left it, with the streams of a split: what every look at a finished run needs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator
from rich.console import Console
from torch import nn

from mmtrain.build import prepare_for_evaluation
from mmtrain.config import Experiment, load_experiment
from mmtrain.data.dataset import Stream
from mmtrain.data.schema import SPLITS
from mmtrain.engine.console import main_console
from mmtrain.engine.look_once import look_once
from mmtrain.engine.model_state import load_model_state
from mmtrain.engine.named_checkpoint import read_named, saved_weights
from mmtrain.engine.readings import note_reading
from mmtrain.engine.run_folder import RunFolder, scored_name
from mmtrain.engine.state import require_version
from mmtrain.errors import CheckpointError, ConfigError
from mmtrain.evaluation.evaluate import Alter, evaluate
from mmtrain.evaluation.predictions import Predictions
from mmtrain.parts import Parts, build_parts, build_streams
from mmtrain.text_cache import use_cached_texts
from mmtrain.training import build_accelerator


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A model that is ready to be evaluated; `console` is None on all processes but the first."""

    run: RunFolder
    experiment: Experiment
    parts: Parts
    model: nn.Module  # on its device, in its precision
    streams: list[Stream]  # of the split
    accelerator: Accelerator
    console: Console | None
    split: str
    weights: str
    checkpoint: str  # its folder's name
    step: int
    notes: tuple[str, ...] = ()  # to be printed
    num_reads: int = 0  # of the test split, this one counted; 0 for another

    @property
    def name(self) -> str:
        """What files about it are called."""
        return scored_name(self.split, self.weights)

    def predict(
        self,
        streams: Sequence[Stream] | None = None,
        *,
        progress: Callable[[int, int], None] | None = None,
        alter: Alter | None = None,
    ) -> list[Predictions]:
        """Predictions of every sample of the split, or of other `streams`; `alter`: what each goes through on its way from
        the store.
        """
        return evaluate(
            self.model,
            self.streams if streams is None else streams,
            objective=self.parts.objective,
            collate=self.parts.collate,
            accelerator=self.accelerator,
            batch_size=self.experiment.batch.evaluation,
            progress=progress,
            alter=alter,
        )


def check_asked(folder: Path, *, split: str, weights: str = "trained") -> RunFolder:
    """The run. Errors: ConfigError where there is none, or where a word is none of those that there are."""
    run = RunFolder(folder)
    if not run.is_run():
        raise ConfigError(run.refusal())
    if split not in SPLITS:
        by_run = "; training.train_predictions: true has the run itself write those" if "train-epoch" in split else ""
        raise ConfigError(f"--split: '{split}' is none of {', '.join(SPLITS)}{by_run}")
    if weights not in ("trained", "average"):
        raise ConfigError(f"--weights: '{weights}' is none of trained, average")
    return run


def load_trained(
    folder: Path, *, split: str, checkpoint: str = "best", weights: str = "trained", cached: bool = False
) -> Trained:
    """`weights`: `trained`, or their `average`; `cached`: read cached texts where the run does, which nothing may alter.
    Of `test` a line is added to test_reads.jsonl.
    Errors: ConfigError where there is no such run or split, CheckpointError where the checkpoint is damaged or the
    stores have changed since.
    """
    run = check_asked(folder, split=split, weights=weights)
    experiment = load_experiment(run.config)
    accelerator = build_accelerator(experiment)
    parts = build_parts(experiment, weights=False)
    place, saved = read_named(run, checkpoint)
    require_version(saved, origin=checkpoint)
    for name, store in parts.stores.items():
        if saved.state["identity"]["stores"].get(name) != store.fingerprint:
            raise CheckpointError(f"dataset '{name}': store {store.path} is not the one this run was trained on")
    try:
        tensors = saved_weights(saved, weights, origin=checkpoint)
    except ConfigError as error:
        raise ConfigError(f"--weights: {error}") from None
    load_model_state(parts.model, tensors, origin=checkpoint)
    console, streams = main_console(accelerator), build_streams(experiment, parts.stores, split)
    model = prepare_for_evaluation(parts.model, accelerator)
    notes = (
        use_cached_texts(experiment, accelerator, model=parts.model, streams=streams, collate=parts.collate, console=console)
        if cached
        else []
    )
    num_reads = 0
    if split == "test":  # whatever is looked at
        num_reads = look_once(accelerator, lambda: note_reading(run, checkpoint=place.name, weights=weights))
    return Trained(
        run=run,
        experiment=experiment,
        parts=parts,
        streams=streams,
        model=model,
        accelerator=accelerator,
        console=console,
        split=split,
        weights=weights,
        checkpoint=place.name,
        step=int(saved.state["step"]),
        notes=tuple(notes),
        num_reads=num_reads,
    )
