"""Losses of predictions in files, in batches of bounded memory: what ``lossrs score`` does, as a function."""

from lossrs.scoring.columns import ScoreError
from lossrs.scoring.score import Score, score
from lossrs.scoring.state import State, merge

__all__ = ["Score", "ScoreError", "State", "merge", "score"]
