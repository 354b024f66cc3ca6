"""A definition for each loss: its options, its formula and where it comes from."""

from lossrs.definitions import (  # noqa: F401 (registers the losses)
    embeddings,
    linear,
    pointwise,
    regions,
    rows,
    sequences,
)
