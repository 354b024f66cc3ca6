"""The losses as functions, under torch.nn.functional's names.

Each takes arrays first and options by keyword, and has three more verbs as attributes: ``value_and_grad``, ``grad_and_hess``
and ``backward``.
"""

from lossrs import definitions as _definitions
from lossrs.loss import function as _function
from lossrs.loss import losses as _losses

__all__ = sorted(_losses)  # noqa: PLE0605

_ = _definitions
globals().update({name: _function(cls) for name, cls in _losses.items()})
