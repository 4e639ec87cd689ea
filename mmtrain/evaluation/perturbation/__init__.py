"""The table of perturbations: what `mmtrain evaluate --robustness` does to samples, one modality at a time."""

from mmtrain.evaluation.perturbation.drop import Drop
from mmtrain.evaluation.perturbation.noise import Noise
from mmtrain.evaluation.perturbation.protocol import Perturbation
from mmtrain.evaluation.perturbation.truncate import Truncate
from mmtrain.evaluation.perturbation.typos import Typos
from mmtrain.evaluation.perturbation.word_loss import WordLoss

PERTURBATIONS: tuple[type[Perturbation], ...] = (Drop, Noise, Truncate, WordLoss, Typos)
