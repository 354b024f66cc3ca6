"""Losses of predictions in files, in batches of bounded memory: what ``lossrs score`` does, as a function."""

from lossrs.scoring.columns import ScoreError
from lossrs.scoring.score import Score, score

__all__ = ["Score", "ScoreError", "score"]
