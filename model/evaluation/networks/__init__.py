"""Networks the model is judged against, retrained here on the same splits, and how many operations anything takes.

`model.evaluation.networks.chips` makes their training images; it stands apart because it reads the training corpus,
which a benchmark of a network does not need.
"""

from model.evaluation.networks.cos2a import Cos2aLike, bicubic_bands
from model.evaluation.networks.cos2a_fit import fit_cos2a
from model.evaluation.networks.mlp import SpectralMlp, fit_mlp
from model.evaluation.networks.operations import count_operations

__all__ = ["Cos2aLike", "SpectralMlp", "bicubic_bands", "count_operations", "fit_cos2a", "fit_mlp"]
