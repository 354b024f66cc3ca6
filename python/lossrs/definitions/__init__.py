"""A definition for each loss: its options, its formula and where it comes from."""

from lossrs.definitions import embeddings, pointwise, rows  # noqa: F401 (registers the losses)
