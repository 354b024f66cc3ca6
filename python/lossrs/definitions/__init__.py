"""A definition for each loss: its options, its formula and where it comes from."""

from lossrs.definitions import embeddings, pointwise, regions, rows, sequences  # noqa: F401 (registers the losses)
