"""A task: a downstream data set with its prompts, choices and splits.

    task = Task.read("films.yaml")
    examples = task.examples("features")
    requests = task.requests(examples, shots=5)              # (context, continuation) pairs, as lm-evaluation-harness builds them
    scores = scorer.loglikelihood(requests)
    per_example = requests.grouped([s[0] for s in scores])   # for each example, one value for each choice

Prompts are rendered when the file is read, so that every mistake in them shows at once, before any checkpoint is loaded.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

from features.errors import DataError, ManifestError
from features.manifest import closest
from features.rendering import Rendered, Renderer
from features.splits import Roles, assign, spread
from features.taskdata import Row, read_hub, read_rows
from features.taskfile import DEFAULT_SHOTS, TaskFile

T = TypeVar("T")
ROLES = ("train", "shots", "features", "test")


@dataclass(frozen=True)
class Example:
    """One example, rendered.

    Attributes
    ----------
    id : unique in the task: the data's own `id` field where every row has a different one, else the number of the row
    rendered : the prompt of each template
    gold : index of the right choice; None in generation
    answers : the right answers in generation, the canonical one first; the right choice's text otherwise
    context : what the data gives beside the question (a context, or passages joined); "" where nothing
    text : the example without its prompt, for frozen representations
    label : name of the gold label, where labels have names
    target : the gold as a number, where it is one (graded labels)
    doc : the row itself
    """

    id: str
    rendered: tuple[Rendered, ...]
    gold: int | None
    answers: tuple[str, ...]
    context: str
    text: str
    label: str | None
    target: float | None
    doc: Mapping[str, Any]

    @property
    def query(self) -> str:
        """The prompt of the first template, without shots."""
        return self.rendered[0].query

    @property
    def choices(self) -> tuple[str, ...]:
        """The choices of the first template; () in generation."""
        return self.rendered[0].choices


class Requests(list[tuple[str, str]]):
    """(context, continuation) pairs, each example's side by side. `spans` says where each example's lie."""

    def __init__(self) -> None:
        super().__init__()
        self.spans: list[slice] = []

    def grouped(self, values: Sequence[T]) -> list[Sequence[T]]:
        """What was computed for each pair, cut into the examples: for a choice task one value for each choice."""
        if len(values) != len(self):
            raise ValueError(f"{len(values)} values for {len(self)} requests")
        return [values[span] for span in self.spans]


@dataclass(frozen=True)
class Task:
    """A downstream task. `Task.read(path)` reads a task YAML, or a data file that says by its fields what it is.

    Attributes
    ----------
    name, path : as in the file
    kind : "multiple_choice" (gold among choices) or "generate" (an answer to be produced)
    labels : names of the labels where every example has the same choices; else ()
    templates : names of the templates
    num_fewshot : how many shots; 5 where the file leaves it open, and never more than the pool has
    roles : who serves for what, with the report of how the splits came about
    weights : id -> weight, where the task was restricted to a weighted subset; else {}
    """

    name: str
    path: Path | None
    kind: Literal["multiple_choice", "generate"]
    labels: tuple[str, ...]
    templates: tuple[str, ...]
    num_fewshot: int
    description: str
    target_delimiter: str
    fewshot_delimiter: str
    delimited: bool  # False for output_type loglikelihood, whose target brings its own white space
    seed: int
    items: Mapping[str, tuple[Example, ...]] = field(repr=False)
    roles: Roles = field(repr=False)
    weights: Mapping[str, float] = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, path: str | Path) -> Task:
        """Read a task. Raises ManifestError (the file) or DataError (the data), naming file, field or line, and the remedy."""
        return _build(TaskFile.read(Path(path)))

    def examples(self, split: str = "features") -> list[Example]:
        """The examples of a role: train, shots, features or test. Raises ManifestError for any other."""
        if split not in ROLES:
            raise ManifestError(f"unknown split {split!r}", where=self.name, remedy=closest(split, ROLES))
        return list(self.items[split])

    @cached_property
    def digest(self) -> str:
        """Digest of everything that a feature or an outcome could depend on: prompts, golds, delimiters and all four roles."""
        head = [
            self.kind,
            self.labels,
            self.templates,
            self.num_fewshot,
            self.target_delimiter,
            self.fewshot_delimiter,
            self.delimited,
            self.seed,
        ]
        hasher = hashlib.sha256(json.dumps([*head, sorted(self.weights.items())]).encode())
        for role in ROLES:
            hasher.update(role.encode())
            for example in self.items[role]:
                prompts = [(r.query, r.choices, r.contexts, r.description) for r in example.rendered]
                record = [example.id, prompts, example.gold, example.answers, example.text, example.target]
                hasher.update(json.dumps(record).encode())
        return f"sha256:{hasher.hexdigest()}"

    @property
    def report(self) -> str:
        """How the splits came about, in one line."""
        return f"{self.name}: {self.roles.report}"

    def weights_of(self, examples: Sequence[Example]) -> list[float] | None:
        """The weight of each example, for `features.estimate.mean`; None where they all weigh the same."""
        return [self.weights[example.id] for example in examples] if self.weights else None

    def shots_for(self, example: Example, count: int, seed: int = 0) -> list[Example]:
        """`count` shots for an example: drawn from the pool by the example's id, so that they are the same for every
        checkpoint and run.
        """
        pool = self.items["shots"]
        if count > len(pool):
            raise DataError(f"{count} shots, but the pool has {len(pool)}", where=self.name, remedy="lower num_fewshot")
        return random.Random(f"{self.seed}/{seed}/{example.id}").sample(pool, count)

    def prompt(self, example: Example, shots: Sequence[Example] = (), template: int = 0) -> list[tuple[str, str]]:
        """The (context, continuation) pairs of one example: one for each choice, or for each answer in generation.

        They are lm-evaluation-harness's: description, then each shot as prompt + target_delimiter + answer +
        fewshot_delimiter, then the prompt; and target_delimiter + choice.
        """
        own = example.rendered[template]
        before = own.description + "".join(self._shot(shot, template) for shot in shots)
        delimiter = self.target_delimiter if self.delimited else ""
        if own.contexts:
            return [(before + context, delimiter + own.query) for context in own.contexts]
        return [(before + own.query, delimiter + text) for text in (own.choices or example.answers)]

    def _shot(self, shot: Example, template: int) -> str:
        own = shot.rendered[template]
        if own.contexts:
            question, answer = own.contexts[shot.gold or 0], own.query
        else:
            question, answer = own.query, own.choices[shot.gold or 0] if own.choices else shot.answers[0]
        return question + self.target_delimiter + answer + self.fewshot_delimiter

    def requests(
        self, examples: Sequence[Example], *, shots: int = 0, template: int = 0, seed: int = 0, max_answers: int | None = None
    ) -> Requests:
        """The requests of many examples, each with its own `shots` shots; `max_answers` bounds the aliases in generation."""
        made = Requests()
        for example in examples:
            pairs = self.prompt(example, self.shots_for(example, shots, seed), template)
            if self.kind == "generate":
                pairs = pairs[:max_answers]
            made.spans.append(slice(len(made), len(made) + len(pairs)))
            made.extend(pairs)
        return made

    def restricted(self, ids: Sequence[str], weights: Sequence[float] | None = None) -> Task:
        """The same task, its features measured on these examples only, in this order; with another digest.

        Raises DataError for an id that is unknown, twice there, or not among the examples of `features`, and for weights that
        do not fit.
        """
        known = {example.id: example for example in self.items["features"]}
        for id in ids:
            if id not in known:
                role = next((role for role in ROLES if any(e.id == id for e in self.items[role])), None)
                what = f"the example {id!r} serves for {role}, not for features" if role else f"no example {id!r}"
                raise DataError(what, where=self.name, remedy="select among the examples of the role features")
        if not ids or len(set(ids)) < len(ids):
            raise DataError(
                "no examples" if not ids else "an example is named twice", where=self.name, remedy="name each example once"
            )
        if weights is not None and (len(weights) != len(ids) or not abs(sum(weights)) > 0):
            raise DataError(
                f"{len(weights)} weights for {len(ids)} examples",
                where=self.name,
                remedy="give each one a weight, not all of them 0",
            )
        given = dict(zip(ids, map(float, weights), strict=True)) if weights is not None else {}
        return replace(self, items={**self.items, "features": tuple(known[id] for id in ids)}, weights=given)

    def limited(self, count: int) -> Task:
        """The same task, its features measured on at most `count` examples: drawn seeded, spread over the labels."""
        pool = self.items["features"]
        if count >= len(pool):
            return self
        chosen = spread(range(len(pool)), count, [example.label for example in pool], f"{self.seed}/limit")
        kept = tuple(pool[i] for i in chosen)
        weights = {example.id: self.weights[example.id] for example in kept} if self.weights else {}
        return replace(self, items={**self.items, "features": kept}, weights=weights)


def _build(file: TaskFile) -> Task:
    where = str(file.path)
    if file.dataset_path:
        rows = read_hub(
            file.dataset_path, file.dataset_name, where=f"{where}: dataset_path", root=file.path.parent, revision=file.revision
        )
    else:
        rows = [row for split, data in file.data.items() for row in read_rows(data, split=split)]
    renderer = Renderer(file, rows)
    ids = _ids(rows)
    examples = [renderer.example_fields(row) for row in rows]
    keys = [
        (" ".join(e["rendered"][0].query.lower().split()), e["rendered"][0].choices, e["rendered"][0].contexts) for e in examples
    ]
    golds = [e["gold"] if renderer.fixed else 0 for e in examples]
    roles = assign([row.split for row in rows], keys, golds, named=file.splits, seed=file.seed, where=where)
    made = {i: Example(id=ids[i], doc=rows[i].fields, **examples[i]) for role in ROLES for i in getattr(roles, role)}
    shots = min(DEFAULT_SHOTS, len(roles.shots)) if file.num_fewshot is None else file.num_fewshot
    if shots > len(roles.shots):
        raise ManifestError(
            f"{shots} shots, but the pool has {len(roles.shots)}", where=f"{where}: num_fewshot", remedy="lower it"
        )
    return Task(
        name=file.task,
        path=file.path,
        kind=renderer.kind,
        labels=renderer.labels,
        templates=tuple(template.name for template in renderer.templates),
        num_fewshot=shots,
        description=file.description,
        target_delimiter=file.target_delimiter,
        fewshot_delimiter=file.fewshot_delimiter,
        delimited=file.output_type != "loglikelihood",
        seed=file.seed,
        items={role: tuple(made[i] for i in getattr(roles, role)) for role in ROLES},
        roles=roles,
    )


def _ids(rows: Sequence[Row]) -> list[str]:
    own = [row.fields.get("id") for row in rows]
    if all(isinstance(id, str | int) for id in own) and len({str(id) for id in own}) == len(rows):
        return [str(id) for id in own]
    return [str(i) for i in range(len(rows))]


def read_tasks(items: Iterable[Task | str | Path]) -> list[Task]:
    """Several tasks, those given by path read; raises ManifestError where two have one name."""
    tasks = [item if isinstance(item, Task) else Task.read(item) for item in items]
    for i, task in enumerate(tasks):
        for other in tasks[:i]:
            if other.name == task.name:
                raise ManifestError(
                    f"the name {task.name!r} is taken by {other.path}",
                    where=f"{task.path}: task",
                    remedy="give each task a name of its own",
                )
    return tasks
