"""What a config may not ask of pretext tasks, and what the words say; which samples of a stream they speak for."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from mmtrain.config import Experiment, load_experiment
from mmtrain.data.batch import Keys
from mmtrain.data.collate import Collator
from mmtrain.data.dataset import Stream
from mmtrain.data.keys import group_key, text_key
from mmtrain.data.schema import FeatureSpec, TaskSchema
from mmtrain.data.store import FeatureStore
from mmtrain.data.writer import StoreWriter
from mmtrain.errors import ConfigError, DataError
from mmtrain.objectives.pretext.info_nce import InfoNceConfig
from mmtrain.parts import build_parts, build_streams, stream_specs

VALUES: dict[str, Any] = {
    "name": "x",
    "datasets": {"clips": {"store": "clips"}},
    "streams": {"clips": {"dataset": "clips", "tasks": ["align", "funny"]}},
    "pretext": {"align": {"name": "info_nce"}},
    "model": {"dim": 4, "sequences": {"audio": {"name": "linear"}, "video": {"name": "linear"}}},
}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FeatureStore:
    """Samples with audio and video (0, 1), audio alone (2), video alone (3), none (4); funny is known of 0, 2 and 4."""
    monkeypatch.chdir(tmp_path)
    modalities = {"audio": FeatureSpec(dim=2), "video": FeatureSpec(dim=3)}
    tasks = {"funny": TaskSchema(kind="binary"), "mood": TaskSchema(kind="regression")}
    with StoreWriter("clips", name="clips", modalities=modalities, tasks=tasks) as writer:
        for number, has in enumerate((("audio", "video"), ("audio", "video"), ("audio",), ("video",), ())):
            for split in ("train", "val"):
                writer.add(
                    id=f"{split}-{number}",
                    split=split,
                    group=f"{split}-{number // 2}",
                    text=("Hello  World", "hello world", "  ", "", "other")[number],
                    features={name: np.ones((2, modalities[name].dim)) for name in has},
                    labels={"funny": number % 3 % 2} | {"mood": number} if number % 2 == 0 else {},
                )
    return FeatureStore("clips")


def load(**changes: Any) -> Experiment:
    Path("c.yaml").write_text(yaml.safe_dump(VALUES | changes), encoding="utf-8")
    return load_experiment("c.yaml")


def complaint(**changes: Any) -> str:
    with pytest.raises(ConfigError) as error:
        load(**changes)
    return str(error.value)


def streams(**tasks: list[str]) -> dict[str, Any]:
    return {name: {"dataset": "clips", "tasks": listed} for name, listed in tasks.items()}


@pytest.mark.usefixtures("store")
def test_what_is_refused_when_the_config_is_read() -> None:
    found = complaint(pretext={"align": {"name": "info_nce"}, "other": {"name": "siglip"}})
    assert "pretext.other: no stream lists this task" in found
    found = complaint(tasks={"align": {"head": {"name": "mlp"}}})
    assert "tasks.align: this is a pretext task; all that it has to say stands under pretext.align" in found
    for pairs, words in {
        (("audio", "text"),): "the model reads no 'text'; it reads audio, video",
        (("audio", "audio"),): "[audio, audio] is no pair of two modalities",
        (("audio", "video"), ("video", "audio")): "[video, audio] stands here twice",
    }.items():
        found = complaint(pretext={"align": {"name": "info_nce", "pairs": [list(pair) for pair in pairs]}})
        assert f"pretext.align.pairs: {words}" in found
    alone = {"dim": 4, "sequences": {"audio": {"name": "linear"}}}
    assert "pretext.align.pairs: this compares two modalities, and the model reads audio alone" in complaint(model=alone)
    only = VALUES["model"] | {"fusion": {"name": "only", "modality": "audio"}}
    assert "pretext.align.pairs: this compares two modalities, and the model reads audio alone" in complaint(model=only)
    video = {"align": {"name": "masked_modelling", "modalities": ["video"]}}
    found = complaint(model=only, pretext=video)
    assert "pretext.align.modalities: the model reads no 'video'; it reads audio" in found
    found = complaint(regularizers={"twice": {"name": "r_drop", "strength": 1.0}})
    assert "regularizers.twice: r_drop reads each sample twice, which pretext tasks would compare; leave it out" in found
    found = complaint(curriculum={"weighting": {"name": "pcgrad"}})
    assert "curriculum.weighting.over: pcgrad compares gradients at the joint vectors" in found
    assert "write parameters" in found
    running = {"name": "competence", "over": 10, "unit": "steps", "difficulty": {"name": "running"}}
    for pacing in ({"name": "self_paced"}, {"name": "self_paced_linear"}, {"name": "loss_quantile"}, running):
        words = f"curriculum.pacing: {pacing['name']} goes by each sample's own loss, and that of pretext task 'align' is"
        assert words in complaint(curriculum={"pacing": pacing})
        load(curriculum={"pacing": pacing}, pretext={"align": {"name": "masked_modelling"}})
    doremi = {"sampler": {"name": "doremi", "reference": "runs/x"}}
    assert "curriculum.sampler: doremi takes a loss less a reference" in complaint(curriculum=doremi)
    load(curriculum={"weighting": {"name": "pcgrad", "over": "parameters"}})
    classes = {"align": {"name": "supervised_contrastive", "task": "funny"}}
    found = complaint(pretext=classes, streams=streams(a=["align"], b=["funny"]))
    assert "streams.a.tasks: 'align' learns from the labels of 'funny'; list it here too" in found


@pytest.mark.usefixtures("store")
def test_a_model_of_one_modality_alone_hides_what_it_reads() -> None:
    model = VALUES["model"] | {"fusion": {"name": "only", "modality": "audio"}}
    parts = build_parts(load(model=model, pretext={"align": {"name": "masked_modelling"}}))
    assert parts.objective.pretext["align"].scores == ("audio_loss",)
    [stream] = parts.train_streams
    has_audio = [stream.labelled("align")[position].item() for position in range(len(stream))]
    assert sum(has_audio) == 3  # 0, 1 and 2; the one with video alone has nothing that is read
    batch = parts.collate([stream.sample(position) for position in range(len(stream))], [0] * len(stream))
    found = parts.objective(parts.model(batch.inputs, batch.labelled, batch.keys), batch)
    assert found.defined["align"].tolist() == has_audio


@pytest.mark.usefixtures("store")
def test_what_is_refused_when_the_stores_are_known() -> None:
    named = load(pretext={"funny": {"name": "info_nce"}}, streams=streams(clips=["funny"]))
    with pytest.raises(
        DataError, match="'funny' is a task of store 'clips', and one under `pretext`; give the pretext task"
    ):
        build_parts(named)
    regression = load(
        pretext={"align": {"name": "supervised_contrastive", "task": "mood"}}, streams=streams(clips=["align", "mood"])
    )
    with pytest.raises(ConfigError, match=r"pretext\.align\.task: 'mood' is a regression task; name a binary or a multi"):
        build_parts(regression)
    narrow = {"clips": {"dataset": "clips", "tasks": ["align"], "modalities": ["audio"]}}
    with pytest.raises(DataError, match="has no sample with the modalities that align needs"):
        build_parts(load(streams=narrow))
    both = {"clips": {"dataset": "clips", "tasks": ["align", "funny"], "modalities": ["audio"]}}
    with pytest.raises(DataError, match=r"pretext\.align: no training sample has what it needs"):
        build_parts(load(streams=both))


@pytest.mark.usefixtures("store")
def test_the_samples_of_a_pretext_task_are_known_before_they_are_read() -> None:
    parts = build_parts(load())
    (stream,) = parts.train_streams
    ids = [stream.sample(position).id for position in range(len(stream))]
    assert ids == ["train-0", "train-1", "train-2", "train-4"]  # 3 has neither a label nor two modalities
    assert stream.task_names == ("funny", "align")
    assert stream.labelled("align").tolist() == [True, True, False, False]
    assert stream.labelled("funny").tolist() == [True, False, True, True]
    batch = parts.collate([stream.sample(position) for position in range(4)], [0] * 4)
    for task in stream.task_names:
        assert batch.labelled[task].tolist() == stream.labelled(task).tolist()
    assert batch.targets["align"].tolist() == [0] * 4
    assert parts.task_names == ("funny", "align")
    (alone,) = build_streams(load(streams=streams(clips=["align"])), parts.stores, "train")
    assert [alone.sample(position).id for position in range(len(alone))] == ["train-0", "train-1"]
    (spec,) = stream_specs(load(), parts.train_streams, parts.objective)
    assert spec.tasks == ("funny", "align")
    assert spec.chance["align"] == pytest.approx(np.log(32))


def test_a_blank_text_is_no_modality(store: FeatureStore) -> None:
    config = InfoNceConfig(pairs=(("text", "audio"),))
    stream = Stream(
        "s", store, split="train", tasks=[], modalities=["text", "audio", "video"], pretext={"align": config.speaks}
    )
    assert stream.labelled("align").tolist() == [True, True]
    assert stream.present()["text"].tolist() == [True, True]
    every = Stream("s", store, split="train", tasks=["funny"], modalities=["text"], pretext={"align": config.speaks})
    assert every.present()["text"].tolist() == [True, False, True]
    assert every.labelled("align").tolist() == [False] * 3


def test_keys_tell_groups_and_texts_apart(store: FeatureStore) -> None:
    stream = Stream("s", store, split="train", tasks=["funny"], modalities=["audio"], pretext={"t": InfoNceConfig().speaks})
    everyone = [*range(len(stream))]
    assert len(everyone) == 3  # of which none has a pair, since video is not read
    wide = Stream(
        "s", store, split="train", tasks=["funny"], modalities=["audio", "video"], pretext={"t": InfoNceConfig().speaks}
    )
    collate = Collator(dims={"audio": 2, "video": 3}, tasks={}, tokenizer=None)
    keys: Keys = collate([wide.sample(position) for position in range(4)], [0] * 4).keys
    assert keys.group.dtype == keys.text.dtype == torch.int64
    groups = keys.group.tolist()
    assert groups[0] == groups[1] != groups[2]
    assert min(*groups, *keys.text.tolist()) >= 0
    texts = keys.text.tolist()
    assert texts[0] == texts[1] == text_key("elsewhere", "x", " HELLO\tworld\n")
    assert len(set(texts)) == 3
    assert text_key("clips", "a", " ") != text_key("clips", "b", " ")
    assert group_key("clips", "a", "1") == group_key("clips", "b", "1") != group_key("calls", "a", "1")
    assert group_key("ab", "x", "c") != group_key("a", "x", "bc")
    assert group_key("clips", "a", "") != group_key("clips", "b", "")
    assert group_key("clips", "x", "train-0") == groups[0]
