"""Which of two checkpoints fine-tunes better, and how sure. Imports neither torch nor mlflow nor bentoml."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ranker.compare import LearningToCompare
    from ranker.explain import Comparison
    from ranker.ranking import Ranking

__all__ = ["Comparison", "LearningToCompare", "Ranking"]

_HOMES = {"LearningToCompare": "compare", "Comparison": "explain", "Ranking": "ranking"}


def __getattr__(name: str) -> Any:
    """Load on first use: the command line imports this package long before it needs LightGBM."""
    import importlib

    if name in _HOMES:
        return getattr(importlib.import_module(f"ranker.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'ranker' has no attribute {name!r}")
