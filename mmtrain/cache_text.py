"""`mmtrain cache-text`: what a run would read of a frozen text encoder, made beforehand or looked through."""

from collections.abc import Sequence
from pathlib import Path

from accelerate.utils import set_seed

from mmtrain.config import load_experiment
from mmtrain.engine.console import main_console
from mmtrain.errors import ConfigError
from mmtrain.parts import build_parts, initial_weights
from mmtrain.text_cache import use_cached_texts
from mmtrain.training import build_accelerator


def make_cache(file: Path, overrides: Sequence[str] = (), *, verify: bool = True) -> None:
    """Make the cache of an experiment, whether it asks for it or not. `verify`: what is there is read whole, and made anew
    where it is damaged. Errors: ConfigError where what the encoder makes of a text does not stay as it is.
    """
    if load_experiment(file, list(overrides)).model.text is None:
        raise ConfigError(f"{file}: the model reads no text; there is nothing to cache")
    experiment = load_experiment(file, [*overrides, "model.text.cache=true"])
    accelerator = build_accelerator(experiment)
    console = main_console(accelerator)
    initial = initial_weights(experiment, accelerator, in_place_of=None)
    set_seed(experiment.seed)
    parts = build_parts(experiment, initial=initial)
    notes = use_cached_texts(
        experiment,
        accelerator,
        model=parts.model,
        streams=parts.train_streams,
        collate=parts.collate,
        console=console,
        verify=verify,
    )
    if not notes:
        raise ConfigError(f"{file}: no stream reads a text through the encoder; there is nothing to cache")
    if console is not None:
        console.print("\n".join(notes), markup=False, highlight=False, soft_wrap=True)
    accelerator.end_training()
