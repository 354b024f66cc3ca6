"""A metric for TorchMetrics."""

from typing import Any

import torch
import torchmetrics

from lossrs.accumulator import Accumulator
from lossrs.adapters._tensors import array
from lossrs.loss import Loss


class LossMetric(torchmetrics.Metric):  # type: ignore[misc, unused-ignore]  # where it is not installed
    """The mean loss over all batches and processes, exactly: the same bits for any number of either.

    It goes wherever metrics go: ``MetricCollection``, Lightning's ``self.log``, ``forward``, ``merge_state``.

    Parameters
    ----------
    loss : Loss
        A loss of this package.
    figure : str, default 'mean'
        What ``compute`` returns: ``'mean'``, ``'sum'``, ``'standard_error'`` or a derived figure, ``'perplexity'``.
    **kwargs
        What ``torchmetrics.Metric`` takes.

    Examples
    --------
    >>> import lossrs, torch
    >>> from lossrs.adapters.torchmetrics import LossMetric
    >>> metric = LossMetric(lossrs.CrossEntropyLoss(), figure="perplexity")
    >>> metric.update(torch.zeros(6, 4), torch.tensor([0, 1, 2, 3, 0, 1]))
    >>> round(float(metric.compute()), 6)
    4.0
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False

    #: States of accumulators as bytes, which together are the metric's.
    states: list[torch.Tensor]

    def __init__(self, loss: Loss, figure: str = "mean", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.loss, self.figure = loss, figure
        self.add_state("states", default=[], dist_reduce_fx=None)

    def update(self, *operands: Any, **named: Any) -> None:
        """Add a batch: what `lossrs.Accumulator.update` takes, as tensors."""
        total = self.accumulator()
        total.update(*map(array, operands), **{name: array(value) for name, value in named.items()})
        self._set(total)

    def compute(self) -> torch.Tensor:
        """Return the figure over all batches, in double precision."""
        figures = self.accumulator().result().to_dict()
        return torch.tensor(figures[self.figure], dtype=torch.float64)

    def accumulator(self) -> Accumulator:
        """Return what has been added up, with all its figures."""
        total = Accumulator(self.loss)
        total.merge(*(Accumulator.from_bytes(state.cpu().numpy().tobytes(), self.loss) for state in self.states))
        return total

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gather the states of all processes; each has one, also before its first batch."""
        self._set(self.accumulator())
        super().sync(*args, **kwargs)

    def _set(self, total: Accumulator) -> None:
        self.states = [torch.frombuffer(bytearray(total.to_bytes()), dtype=torch.uint8).to(self.device)]
