"""A fitted ranker on disk: ``ranker.json``, and the text of its trees, of all tasks together (``booster.txt``, ``bags.txt`` of
the resamples) and of each task's own (``own.txt``, ``own_bags.txt``). No pickle: what was downloaded is read, never run.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from features.errors import DataError
from ranker.ensemble import Ensemble
from ranker.standardise import Standardiser
from ranker.strata import Strata

if TYPE_CHECKING:
    from ranker.compare import LearningToCompare

FORMAT = 6
_READ = (5, FORMAT)  # 5 knew one steepness for all tasks, and is answered as it was
_TEXTS = ("booster.txt", "bags.txt", "own.txt", "own_bags.txt")


def write(ranker: LearningToCompare, folder: Path) -> None:
    """Write a fitted ranker; the folder is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = dict(zip(_TEXTS, (*ranker.ensemble_.trees.texts(), *ranker.ensemble_.own.texts()), strict=True))
    content = {
        "format": FORMAT,
        "kind": "foretune learning-to-compare",
        "digests": {name: _digest(text) for name, text in texts.items()},
        "parameters": _plain(ranker.get_params()),
        "tasks": ranker.tasks_,
        "feature_names_in": [str(c) for c in ranker.feature_names_in_],
        "standardiser": ranker.standardiser_.to_json(),
        "directions": ranker.directions_.tolist(),
        "ensemble": ranker.ensemble_.to_json(),
        "call_from": ranker.call_from_,
        "strata": None if ranker.strata_ is None else ranker.strata_.to_json(),
        "card": _plain(ranker.card_),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "ranker.json").write_text(json.dumps(content, indent=1, allow_nan=False), encoding="utf-8")


def read(folder: Path) -> LearningToCompare:
    """Read what `write` wrote; see `LearningToCompare.load` for the errors."""
    from ranker.compare import LearningToCompare

    where = str(folder / "ranker.json")
    remedy = "train the ranker again, or give the folder that LearningToCompare.save wrote"
    try:
        content = json.loads((folder / "ranker.json").read_text(encoding="utf-8"))
        texts = {name: (folder / name).read_text(encoding="utf-8") for name in _TEXTS}
    except FileNotFoundError as error:
        raise DataError(f"no file {Path(str(error.filename)).name}", where=str(folder), remedy=remedy) from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"cannot be read: {str(error).splitlines()[0]}", where=where, remedy=remedy) from error
    if not isinstance(content, dict) or content.get("kind") != "foretune learning-to-compare":
        raise DataError("not a ranker", where=where, remedy=remedy)
    if content.get("format") not in _READ:
        reads = " and ".join(map(str, _READ))
        raise DataError(f"format {content.get('format')!r}, this version reads {reads}", where=where, remedy=remedy)
    for name, text in texts.items():
        if not isinstance(content.get("digests"), dict) or content["digests"].get(name) != _digest(text):
            raise DataError("does not fit the digest in ranker.json", where=str(folder / name), remedy=remedy)
    try:
        parameters = content["parameters"]
        ranker = LearningToCompare(**{**parameters, "strata": tuple(parameters["strata"])})
        ranker.tasks_ = [str(t) for t in content["tasks"]]
        ranker._task_code = {t: i for i, t in enumerate(ranker.tasks_)}
        ranker.feature_names_in_ = np.array(content["feature_names_in"], dtype=object)
        ranker.n_features_in_ = len(ranker.feature_names_in_)
        ranker.classes_ = np.array([0, 1])
        ranker.standardiser_ = Standardiser.from_json(content["standardiser"])
        ranker.feature_names_ = [c.name for c in ranker.standardiser_.columns]
        ranker.directions_ = np.array(content["directions"], np.int64)
        booster, bags, own, own_bags = (texts[name] for name in _TEXTS)
        ranker.ensemble_ = Ensemble.from_json(content["ensemble"], (booster, bags), (own, own_bags))
        if ranker.ensemble_.trees.whole is None:
            raise DataError("no trees", where="booster.txt", remedy=remedy)
        ranker.booster_ = ranker.ensemble_.trees.whole
        ranker.call_from_ = float(content["call_from"])
        strata = content.get("strata")
        ranker.strata_ = None if strata is None else Strata.from_json(strata)
        ranker.card_ = content["card"]
        ranker.holdout_ = ranker.card_["holdout"]
        ranker.importance_ = {str(k): float(v) for k, v in ranker.card_["importance"].items()}
    except DataError as error:
        raise DataError(
            error.message, where=f"{folder}{f', {error.where}' if error.where else ''}", remedy=error.remedy
        ) from error
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"not understood: {type(error).__name__} {error}", where=where, remedy=remedy) from error
    return ranker


def _digest(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    """JSON's own types only; a number that JSON cannot hold becomes null."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(v) for v in value]
    if isinstance(value, (np.integer, int)) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, (np.floating, float)):
        return float(value) if np.isfinite(value) else None
    if isinstance(value, (np.bool_, bool)):
        return bool(value)
    return value if value is None or isinstance(value, str) else str(value)
