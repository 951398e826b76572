"""Results of lm-evaluation-harness as features: `results_*.json`, and the `samples_*.jsonl` beside them.

    foretune's name             from
    kshot_acc, kshot_acc_norm   results `acc`, `acc_norm` of a task with shots; prompt_... where it has none
    kshot_nll, _margin, _prob   samples of a multiple-choice task: the log-likelihoods of its choices; prompt_... likewise
    lm_eval_METRIC              any other metric of the results, with `_FILTER` where a filter made it

A harness result does not say which examples are held out from fine-tuning: evaluate the pre-trained checkpoints on a split on
which no outcome is
measured.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from features.errors import DataError
from features.estimate import mean
from features.manifest import kind_of
from features.rows import FEATURE_COLUMNS, Feature

if TYPE_CHECKING:
    import pandas as pd

_DATE = re.compile(r"_(\d{4}-\d{2}-\d{2}T[\d.:-]+)$")


def lm_eval(path: str | Path, *, zoo: str = "lm-eval", names: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Features from a results file of lm-evaluation-harness, or from all those in a folder and its subfolders.

    Parameters
    ----------
    zoo : name of the zoo that the checkpoints are said to be of
    names : the harness's model name -> what to call it; left out, the last part of the model's name

    A checkpoint is a model at a revision (`checkpoint_name`); where one was evaluated on a task several times, the latest counts.
    Returns FEATURE_COLUMNS; `digest` is "", because the harness does not say which weights it had.
    Raises DataError: nothing there, not a results file, two models under one name.
    """
    import pandas as pd

    path = Path(path)
    files = sorted(path.rglob("results_*.json")) if path.is_dir() else [path]
    if not files or not path.exists():
        raise DataError(
            "no results of lm-evaluation-harness", where=str(path), remedy="name a results_*.json or a folder that holds some"
        )
    latest: dict[tuple[str, str], tuple[str, list[Feature]]] = {}
    models: dict[str, str] = {}
    for file in files:
        model, revision, tasks = _results(file)
        checkpoint = checkpoint_name(model, revision, names)
        if models.setdefault(checkpoint, model) != model:
            raise DataError(
                f"{model!r} and {models[checkpoint]!r} would both be {checkpoint!r}",
                where=str(file),
                remedy="give `names` for the two",
            )
        date = _date(file)
        for task, rows in tasks:
            if (checkpoint, task) not in latest or date >= latest[checkpoint, task][0]:
                latest[checkpoint, task] = date, rows
    table = [
        [zoo, checkpoint, "", *(row.to_dict()[column] for column in FEATURE_COLUMNS[3:])]
        for (checkpoint, _), (_, rows) in sorted(latest.items(), key=lambda item: item[0])
        for row in rows
    ]
    return pd.DataFrame(table, columns=pd.Index(FEATURE_COLUMNS))


def model_and_revision(content: Mapping[str, Any]) -> tuple[str, str]:
    """The harness's name of the model that a results file's content is of, and its revision, "" where none is named.

    Raises KeyError, TypeError or AttributeError for what is no content of a results file.
    """
    config = content.get("config") or {}
    arguments = config.get("model_args") or {}
    if isinstance(arguments, str):
        arguments = dict(part.split("=", 1) for part in arguments.split(",") if "=" in part)
    return str(content.get("model_name") or arguments.get("pretrained") or config["model"]), str(arguments.get("revision") or "")


def checkpoint_name(model: str, revision: str, names: Mapping[str, str] | None = None) -> str:
    """MODEL@REVISION, or MODEL at the revision main; MODEL is what `names` calls it, else the last part of its name."""
    name = (names or {}).get(model) or model.rstrip("/").rsplit("/", 1)[-1]
    return f"{name}@{revision}" if revision not in ("", "main") else name


def _date(file: Path) -> str:
    found = _DATE.search(file.stem)
    return found[1] if found else ""


def _results(file: Path) -> tuple[str, str, list[tuple[str, list[Feature]]]]:
    """Model, revision, and the features of each task."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        results = content["results"]
        model, revision = model_and_revision(content)
        tasks = [(str(task), list(_metrics(str(task), found, content))) for task, found in results.items()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read: {error}", where=str(file), remedy="check the file") from None
    except (ValueError, RecursionError, OverflowError, KeyError, TypeError, AttributeError) as error:
        what = f"not JSON: {error.msg}" if isinstance(error, json.JSONDecodeError) else f"not a results file: {error!r}"
        raise DataError(what, where=str(file), remedy="name a results_*.json that lm-evaluation-harness wrote") from None
    for task, rows in tasks:
        samples = file.with_name(f"samples_{task}_{_date(file)}.jsonl")
        if samples.exists():
            rows += _samples(samples, task, _prefix(content, task))
    return model, revision, tasks


def _prefix(content: Mapping[str, Any], task: str) -> str:
    return "kshot" if (content.get("n-shot") or {}).get(task) else "prompt"


def _metrics(task: str, found: Mapping[str, Any], content: Mapping[str, Any]) -> Iterator[Feature]:
    better = (content.get("higher_is_better") or {}).get(task) or {}
    counts = (content.get("n-samples") or {}).get(task) or {}
    for key, value in found.items():
        metric, _, made_by = key.partition(",")
        if not made_by or metric.endswith("_stderr") or isinstance(value, bool) or not isinstance(value, int | float):
            continue
        stderr = found.get(f"{metric}_stderr,{made_by}")
        name = f"{_prefix(content, task)}_{metric}" if metric in ("acc", "acc_norm") else f"lm_eval_{metric}"
        yield Feature(
            name if made_by == "none" else f"{name}_{made_by.replace('-', '_')}",
            float(value),
            stderr=float(stderr) if isinstance(stderr, int | float) else None,
            count=int(counts.get("effective", 0)),
            direction=0 if better.get(metric) is None else 1 if better[metric] else -1,
            task=task,
        )


def _samples(file: Path, task: str, prefix: str) -> list[Feature]:
    """Likelihood features of a multiple-choice task's samples; none for another type, or where the gold cannot be told."""
    found = read_samples(file)
    rows = []
    for name, values, direction in (
        ("nll", [s.nll for s in found], -1),
        ("margin", [s.margin for s in found], 1),
        ("prob", [s.probability for s in found], 1),
    ):
        if values:
            value, stderr = mean(values)
            rows.append(Feature(f"{prefix}_{name}", value, stderr=stderr, count=len(values), direction=direction, task=task))
    return rows


@dataclass(frozen=True)
class Sample:
    """One example of `samples_*.jsonl`: its `doc_id`, the log-likelihoods of its choices (nats), and the gold's index."""

    id: str
    scores: np.ndarray
    gold: int

    @property
    def nll(self) -> float:
        return -float(self.scores[self.gold])

    @property
    def margin(self) -> float:
        return float(self.scores[self.gold] - np.delete(self.scores, self.gold).max())

    @property
    def probability(self) -> float:
        raised = np.exp(self.scores - self.scores.max())
        return float(raised[self.gold] / raised.sum())


def read_samples(file: Path) -> list[Sample]:
    """The samples of a multiple-choice task, each once; none for a task of another type, or where the gold cannot be told.

    Raises DataError, with the line, for what is not a sample.
    """
    samples = []
    seen: set[Any] = set()
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read: {error}", where=str(file), remedy="check the file") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{file}: line {number}"
        try:
            sample = json.loads(line)
            identity, responses, target = sample["doc_id"], sample["filtered_resps"], str(sample["target"])
            if not isinstance(identity, int | str):
                raise TypeError(f"doc_id is {kind_of(identity)}")
            given = [(arguments["arg_0"], arguments.get("arg_1")) for arguments in sample["arguments"].values()]
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"not a sample: {error!r}", where=where, remedy="name a samples_*.jsonl that the harness wrote"
            ) from None
        if identity in seen:  # the same example again, under another filter
            continue
        seen.add(identity)
        if any(text is None for _, text in given):  # a text by itself, as rolling likelihoods have it
            return []
        asked = [(context, str(text).strip()) for context, text in given]
        half = len(asked) // 2
        if asked[half:] == [("", text) for _, text in asked[:half]]:  # each choice once more by itself, for acc_mutual_info
            asked, responses = asked[:half], responses[:half]
        try:
            scores = np.asarray([float(response[0]) for response in responses])
        except (ValueError, TypeError, IndexError):
            return []
        stripped = [text for _, text in asked]
        if re.fullmatch("[0-9]{1,9}", target):
            gold = int(target)
        else:
            gold = stripped.index(target.strip()) if target.strip() in stripped else -1
        if len(scores) < 2 or not 0 <= gold < len(scores):
            return []
        samples.append(Sample(str(identity), scores, gold))
    return samples
