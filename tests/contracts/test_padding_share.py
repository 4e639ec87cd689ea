"""What is padded away: less of it where samples of like length share a batch, and less again where a budget cuts batches."""

import pytest

from data_prep.synth import synthesize
from mmtrain.curriculum.config import CurriculumConfig
from mmtrain.curriculum.streams import StreamSpec
from mmtrain.data.collate import Collator
from mmtrain.data.dataset import Stream
from mmtrain.data.store import FeatureStore
from mmtrain.engine.loading import Loader
from mmtrain.engine.throughput import Throughput

BATCH, STEPS = 32, 30


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Stream:
    """280 samples of 1 to 40 rows."""
    path = tmp_path_factory.mktemp("padding") / "store"
    synthesize(path, samples=400, modalities={"audio": 2}, tasks={"funny": "binary"}, missing=0, max_rows=40)
    return Stream("all", FeatureStore(path), split="train", tasks=["funny"], modalities=["audio"])


def padding(stream: Stream, *, grouped: bool, tokens: int | None = None) -> tuple[float, int]:
    """The logged share of padding, and the samples that were passed."""
    spec = StreamSpec(name="all", size=len(stream), tasks=("funny",), lengths=stream.lengths().__getitem__)
    config = CurriculumConfig(window=STEPS, group_by_length=grouped)
    curriculum = config.build(
        streams=[spec], tasks=("funny",), batch_size=BATCH, seed=0, steps_per_epoch=STEPS, kinds={"funny": "binary"}
    )
    collate = Collator(dims={"audio": 2}, tasks=stream.tasks, tokenizer=None)
    loader, passed = Loader(streams=[stream], collate=collate, prefetch=0, tokens=tokens), Throughput(seconds=1.0)
    for inputs in loader.steps(curriculum.next_window(0, STEPS), first=0):
        passed.add(inputs.micro_batches, samples=sum(map(len, inputs.micro_batches)))
    return passed.record()["padding"]["audio"], passed.samples


def test_padding_falls_with_grouping_and_with_a_budget(stream: Stream) -> None:
    shares = {
        (grouped, tokens): padding(stream, grouped=grouped, tokens=tokens)
        for grouped in (False, True)
        for tokens in (None, 320)
    }
    assert {samples for _, samples in shares.values()} == {BATCH * STEPS}
    share = {key: value for key, (value, _) in shares.items()}
    assert share[False, None] > 0.4  # of lengths even from 1 to 40 in batches of 32, near half
    assert share[True, None] < 0.5 * share[False, None]
    assert share[False, 320] < 0.5 * share[False, None]
    assert share[True, 320] < share[True, None]
