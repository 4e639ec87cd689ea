"""Which rows are from the extractor that a model learned from: by what they depend on, and by nothing else."""

from types import SimpleNamespace
from typing import Any

import pytest

from mmtrain.data.schema import FeatureSpec, ModalitySchema
from mmtrain.errors import DataError
from mmtrain.signature import ModalityInput, Signature, source_of

MADE = {
    "name": "torchvision/resnet18",
    "asked": "resnet18",
    "weights_sha256": {"a.pth": "1" * 64},
    "frames_per_second": 2.0,
    "options": {"device": "cpu", "model": "resnet18"},
}


def extracted(**changes: Any) -> dict[str, Any]:
    return {"extractors": {"video": MADE | changes}}


def joined(*provenances: dict[str, Any]) -> dict[str, Any]:
    return {"made_by": "merge", "sources": [{"provenance": item} for item in provenances]}


def source(provenance: dict[str, Any]) -> Any:
    spec = FeatureSpec(dim=4, extractor="torchvision/resnet18", extractor_version="1", rows_per_second=2.0)
    schema = ModalitySchema(**spec.model_dump(), shards=())
    store = SimpleNamespace(schema=SimpleNamespace(modalities={"video": schema}, provenance=provenance))
    return source_of(store, "video")  # type: ignore[arg-type]


LEARNED = Signature(modalities={"video": ModalityInput(dim=4, shape=None, sources={"clips": source(extracted())})}, tasks={})


@pytest.mark.parametrize(
    "provenance",
    [
        extracted(options={"device": "cuda:1", "model": "resnet18", "batch_size": 64}),
        extracted(weights_sha256={"renamed.pth": "1" * 64}),
        joined(extracted(), {"extractors": {"audio": {"name": "logmel"}}}),
        joined(extracted(), extracted(options={"device": "cuda", "model": "resnet18"})),
        {"made_by": "filter", "sources": [{"provenance": joined(extracted())}]},
    ],
    ids=["device", "file-name", "merged-with-sound", "merged-shards", "filtered"],
)
def test_what_rows_do_not_depend_on_is_nothing(provenance: dict[str, Any]) -> None:
    found = source(provenance)
    assert found.made is not None
    LEARNED.check_source("video", found, origin="new")


@pytest.mark.parametrize(
    ("provenance", "words"),
    [
        (extracted(weights_sha256={"a.pth": "2" * 64}), "weights"),
        (extracted(frames_per_second=4.0), "frames_per_second 4.0 for 2.0"),
        (extracted(options={"model": "resnet18", "half": True}), "options"),
        (joined(extracted(frames_per_second=4.0)), "frames_per_second 4.0 for 2.0"),
    ],
)
def test_what_rows_depend_on_is_told(provenance: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match="not from the extractor that this model learned from") as complaint:
        LEARNED.check_source("video", source(provenance), origin="new")
    assert words in str(complaint.value)


@pytest.mark.parametrize("provenance", [{}, {"sources": ["https://a.b"]}, {"sources": None}, {"extractors": "resnet18"}])
def test_a_store_that_says_nothing_is_taken_at_its_name(provenance: dict[str, Any]) -> None:
    assert source(provenance).made is None
    LEARNED.check_source("video", source(provenance), origin="new")
