"""The table of codes whose checkpoints can be taken over: names and shapes of theirs to names and shapes of ours."""

from collections.abc import Mapping

from mmtrain.foreign_weights.conversion import Scheme
from mmtrain.foreign_weights.hiccap import HiccapScheme

SCHEMES: Mapping[str, type[Scheme]] = {"hiccap": HiccapScheme}
