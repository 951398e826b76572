"""The log-likelihood engine: what a checkpoint gives to a text, to the same digits as lm-evaluation-harness and far sooner.

Public: `Scorer`, the two records that it returns, `Score` and `TokenScores`, and `encode`: the tokens that it scores.
"""

from features.scoring.records import Score, TokenScores
from features.scoring.rows import Encoded, encode
from features.scoring.scorer import Scorer

__all__ = ["Encoded", "Score", "Scorer", "TokenScores", "encode"]
