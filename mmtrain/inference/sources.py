"""From the words of a command to a file of answers: a store, a table of media, or one clip."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
from rich.console import Console

from mmtrain.data.store import FeatureStore
from mmtrain.engine.console import lasting_console
from mmtrain.engine.launch import peer_failure
from mmtrain.engine.progress import ProgressBar
from mmtrain.errors import ConfigError, PeerError
from mmtrain.inference.load import load
from mmtrain.inference.predict import Predicting, check_out, predict_store
from mmtrain.inference.raw import TIMES, Extraction, Media, extracted, media_manifest
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
    with ExitStack() as stack:
        further: Mapping[str, pa.DataType] = {}
        if isinstance(source, Media):
            further = TIMES if source.window is not None else {}
            manifest = stack.enter_context(media_manifest(source))
        if is_manifest or isinstance(source, Media):
            table = source if isinstance(source, Path) else manifest
            chosen = extraction or Extraction()
            outside = chosen.allow_outside or isinstance(source, Media)
            store = stack.enter_context(
                extracted(
                    model,
                    table,
                    chosen,
                    beside=asked.out,
                    skip_bad=asked.skip_bad,
                    allow_outside=outside,
                    console=Console(stderr=True),
                )
            )
        else:
            store = FeatureStore(source)
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
