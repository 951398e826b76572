"""The log-likelihood engine: what a checkpoint gives to a text, to the same digits as lm-evaluation-harness and far sooner.

Public: `Scorer`, and the two records that it returns, `Score` and `TokenScores`.
"""

from features.scoring.records import Score, TokenScores
from features.scoring.scorer import Scorer

__all__ = ["Score", "Scorer", "TokenScores"]
