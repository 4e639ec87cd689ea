"""What the server of `lives` has imported and made when it forks: all that a run imports on its way, nothing of a run."""

import gc
from importlib import import_module

from mmtrain.quick_start import uncollected

MODULES = (
    "mmtrain.cli",
    "mmtrain.engine.progress",
    "mmtrain.scoring",
    "mmtrain.stages",
    "pyarrow.dataset",
    "rich.progress",
    "scipy.special",
    "torch._dynamo",
    "torch.distributed.fsdp",
    "torchjd.aggregation",
    "torchmetrics.functional.classification",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.bert.modeling_bert",
    "transformers.models.bert.tokenization_bert",
)

with uncollected():
    for name in MODULES:
        import_module(name)
    # a thousand patterns, of every model there is, which the first one that is loaded compiles
    import_module("transformers.conversion_mapping").get_checkpoint_conversion_mapping("bert")
gc.freeze()
