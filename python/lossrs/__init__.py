"""Loss functions and their derivatives on NumPy buffers, at the speed of memory.

`lossrs.functional` has torch.nn.functional's names; this module has torch.nn's classes, the accumulator that scores
with them, the exact sum and the number of threads. `losses` maps each functional name to its class.
"""

from lossrs import functional
from lossrs._lossrs import (
    DomainError,
    ExactSum,
    LabelError,
    __version__,
    get_num_threads,
    instruction_set,
    set_num_threads,
)
from lossrs.accumulator import Accumulator
from lossrs.definitions.embeddings import (
    ContrastiveDistanceLoss,
    ContrastiveLoss,
    CosineEmbeddingLoss,
    TripletMarginLoss,
    TripletMarginWithDistanceLoss,
)
from lossrs.definitions.linear import LinearCrossEntropyLoss
from lossrs.definitions.pointwise import (
    BCELoss,
    BCEWithLogitsLoss,
    GaussianNLLLoss,
    HingeEmbeddingLoss,
    HingeLoss,
    HuberLoss,
    KLDivLoss,
    L1Loss,
    MarginRankingLoss,
    MSELoss,
    PinballLoss,
    PoissonNLLLoss,
    SigmoidFocalLoss,
    SmoothL1Loss,
    SoftMarginLoss,
    TweedieDevianceLoss,
)
from lossrs.definitions.regions import DiceLoss, FocalTverskyLoss, JaccardLoss, TverskyLoss
from lossrs.definitions.rows import (
    CrossEntropyLoss,
    MultiLabelMarginLoss,
    MultiLabelSoftMarginLoss,
    MultiMarginLoss,
    NLLLoss,
    SoftmaxFocalLoss,
)
from lossrs.definitions.sequences import CTCLoss
from lossrs.loss import Loss, losses
from lossrs.threads import register_with_threadpoolctl

__all__ = [
    "Accumulator",
    "BCELoss",
    "BCEWithLogitsLoss",
    "CTCLoss",
    "ContrastiveDistanceLoss",
    "ContrastiveLoss",
    "CosineEmbeddingLoss",
    "CrossEntropyLoss",
    "DiceLoss",
    "DomainError",
    "ExactSum",
    "FocalTverskyLoss",
    "GaussianNLLLoss",
    "HingeEmbeddingLoss",
    "HingeLoss",
    "HuberLoss",
    "JaccardLoss",
    "KLDivLoss",
    "L1Loss",
    "LabelError",
    "LinearCrossEntropyLoss",
    "Loss",
    "MSELoss",
    "MarginRankingLoss",
    "MultiLabelMarginLoss",
    "MultiLabelSoftMarginLoss",
    "MultiMarginLoss",
    "NLLLoss",
    "PinballLoss",
    "PoissonNLLLoss",
    "SigmoidFocalLoss",
    "SmoothL1Loss",
    "SoftMarginLoss",
    "SoftmaxFocalLoss",
    "TripletMarginLoss",
    "TripletMarginWithDistanceLoss",
    "TverskyLoss",
    "TweedieDevianceLoss",
    "__version__",
    "functional",
    "get_num_threads",
    "instruction_set",
    "losses",
    "set_num_threads",
]

register_with_threadpoolctl()
