"""What a modality's rows come from, as far as its store says: two that differ are not the same measurements."""

from collections.abc import Iterator, Mapping
from typing import Any

from mmtrain.data.schema import StoreSchema


def describe_origin(store: StoreSchema, modality: str) -> dict[str, str]:
    """`extractor`, `weights` and `scale`, in words; what the store does not say is left out."""
    schema = store.modalities[modality]
    is_normalized = schema.statistics is not None and schema.statistics.normalize
    facts = {"scale": "normalized by `data_prep stats`" if is_normalized else "as extracted"}
    if schema.extractor != "unknown":
        facts["extractor"] = f"{schema.extractor} {schema.extractor_version}".strip()
        hashes = sorted(set(_weights(store.provenance, modality)))
        facts |= {"weights": " and ".join(value[:12] for value in hashes)} if hashes else {}
    return facts


def _weights(provenance: Mapping[str, Any], modality: str) -> Iterator[str]:
    """sha256 of the extractor's weights, of this store or of those that it was made from."""
    extractors = provenance.get("extractors")
    extractor = extractors.get(modality) if isinstance(extractors, dict) else None
    weights = extractor.get("weights_sha256") if isinstance(extractor, dict) else None
    yield from map(str, weights.values() if isinstance(weights, dict) else ())
    sources = provenance.get("sources")
    for source in sources if isinstance(sources, list) else ():
        inner = source.get("provenance") if isinstance(source, dict) else None
        yield from _weights(inner, modality) if isinstance(inner, dict) else ()
