"""The losses as functions, under torch.nn.functional's names.

Each takes arrays first and options by keyword, and has three more verbs as attributes: ``value_and_grad``,
``grad_and_hess`` and ``backward``.
"""

import lossrs.definitions  # noqa: F401 (registers the losses)
from lossrs.loss import function as _function
from lossrs.loss import losses as _losses

__all__ = sorted(_losses)

globals().update({name: _function(cls) for name, cls in _losses.items()})
