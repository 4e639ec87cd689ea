"""The table of compressions: what `mmtrain compress --method` does to a trained model."""

from mmtrain.errors import ConfigError
from mmtrain.inference.compression.fold import Fold
from mmtrain.inference.compression.half import BFloat16, Float16
from mmtrain.inference.compression.int8 import Int8
from mmtrain.inference.compression.protocol import Method

METHODS: tuple[Method, ...] = (Fold(), Int8(), BFloat16(), Float16())


def method_named(name: str) -> Method:
    """Errors: ConfigError where there is none of that name."""
    for method in METHODS:
        if method.name == name:
            return method
    raise ConfigError(f"--method {name}: write one of {', '.join(method.name for method in METHODS)}")
