"""From the words of a command to a file of answers: a store, a table of media, or one clip."""

from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from mmtrain.data.store import FeatureStore
from mmtrain.engine.console import lasting_console
from mmtrain.engine.launch import peer_failure
from mmtrain.engine.progress import ProgressBar
from mmtrain.errors import ConfigError, PeerError
from mmtrain.inference.load import load
from mmtrain.inference.predict import Predicting, check_out, predict_store
from mmtrain.inference.raw import TIMES, Extraction, Media, extracted, media_manifest
from mmtrain.inference.trained_model import TrainedModel
from mmtrain.training import join_processes


def predict_source(
    run: Path,
    asked: Predicting,
    source: Path | Media,
    *,
    is_manifest: bool = False,
    checkpoint: str = "best",
    weights: str = "trained",
    extraction: Extraction | None = None,
) -> None:
    """Answer what `source` holds: a store, a manifest where `is_manifest`, or a clip. Errors: UserError of every kind."""
    check_out(asked)
    processes = join_processes()
    if processes.num_processes > 1 and (is_manifest or isinstance(source, Media)):
        raise ConfigError("predict: media are extracted by one process; make a store of them, and write --store")
    model = load(run, checkpoint=checkpoint, weights=weights, device=processes.device)
    further = TIMES if isinstance(source, Media) and source.window is not None else {}
    with ExitStack() as stack:
        store = _opened(stack, model, asked, source, is_manifest=is_manifest, how=extraction or Extraction())
        console = lasting_console() if processes.is_main_process else None
        with ProgressBar(console, "predict", total=1) as progress:
            try:
                bad = predict_store(model, store, asked, further=further, progress=progress.count, processes=processes)
            except RuntimeError as error:
                cause = peer_failure(error) if processes.num_processes > 1 else None
                if cause is not None:
                    raise PeerError(cause) from error
                raise
        if console is not None:
            count = len(store) if asked.split is None else len(store.split(asked.split))
            samples = "sample" if count - bad == 1 else "samples"
            listed = f"; {bad} bad samples are left out, see {asked.out}.bad.jsonl" if bad else ""
            console.print(f"{count - bad} {samples}: {asked.out}{listed}", markup=False, highlight=False, soft_wrap=True)


def _opened(
    stack: ExitStack, model: TrainedModel, asked: Predicting, source: Path | Media, *, is_manifest: bool, how: Extraction
) -> FeatureStore:
    """The store, or one made of the media, which goes when `stack` is left."""
    if isinstance(source, Path) and not is_manifest:
        return FeatureStore(source)
    table = stack.enter_context(media_manifest(source)) if isinstance(source, Media) else source
    made = extracted(
        model,
        table,
        how,
        beside=asked.out,
        skip_bad=asked.skip_bad,
        allow_outside=how.allow_outside or isinstance(source, Media),
        console=Console(stderr=True),
    )
    return stack.enter_context(made)
