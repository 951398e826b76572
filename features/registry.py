"""Which extractors there are, and what one is.

`EXTRACTORS` maps a name to the class that measures it, imported only when it is used. A new extractor is a class that
satisfies `Extractor` and one line here. The order is the order of measuring: cheap before dear, so that a killed run has as
much as possible behind it.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, cast

import numpy as np

from features.errors import UnknownNameError
from features.manifest import closest
from features.rows import Feature

if TYPE_CHECKING:
    from features.corpora import Corpora
    from features.model import Model
    from features.scoring import Scorer
    from features.tasks import Example, Task
    from features.zoo import Checkpoint

# name -> "module:Class"
EXTRACTORS: dict[str, str] = {
    "configuration": "features.configuration:Configuration",
    "ppl_clm": "features.perplexity:PerplexityCLM",
    "ppl_sc": "features.corruption:PerplexitySC",
    "ppl_task": "features.perplexity:TaskPerplexity",
    "prompt": "features.prompts:ZeroShotPrompts",
    "kshot": "features.kshot:KShot",
    "transferability": "features.transferability.extractor:Transferability",
    "weights": "features.spectra:WeightSpectra",
    "linear_probe": "features.linear_probe:LinearProbe",
    "probe": "features.probe.extractor:Probe",
    "probe_last_layer": "features.probe.extractor:LastLayerProbe",
    "probe_lora": "features.probe.extractor:LoraProbe",
    "probe_long": "features.probe.extractor:LongProbe",
    "fisher": "features.fisher:TaskFisher",
}

# Names of feature families that are derived rather than measured (features.dynamics.rows), and the patterns of what they produce.
DERIVED: dict[str, tuple[str, ...]] = {"curve": ("curve_*",), "dynamics": ("dynamics_*",)}
NEEDED = {"dynamics": "prompt"}  # what must have been measured for it


@dataclass
class Session:
    """One loaded checkpoint, and on it one task (or none): what an extractor measures.

    Attributes
    ----------
    checkpoint : what the manifest says of it
    model : the loaded checkpoint
    scorer : its log-likelihood engine, made when it is first asked for (a checkpoint without an output layer has none)
    corpora : text for perplexity
    task : the task; None for an extractor of the checkpoint alone
    cache : shared by all extractors and tasks of this checkpoint, for work that several need (frozen representations per
        task). A key should
        hold the task's digest
    kept : what `keep` was given
    memory_budget_mb : working memory of a batch (of `scorer`, of frozen representations) beyond the weights; None chooses
        by device
    """

    checkpoint: Checkpoint
    model: Model
    corpora: Corpora
    task: Task | None = None
    cache: dict[Any, Any] = field(default_factory=dict)
    kept: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    memory_budget_mb: float | None = None

    @property
    def scorer(self) -> Scorer:
        """The engine, one for all extractors. Raises CheckpointError for a checkpoint without an output layer."""
        if "scorer" not in self.cache:
            from features.scoring import Scorer

            self.cache["scorer"] = Scorer(self.model, memory_budget_mb=self.memory_budget_mb)
        return cast("Scorer", self.cache["scorer"])

    def on(self, task: Task | None) -> Session:
        """The same checkpoint on a task; the cache stays shared, nothing is kept yet."""
        return replace(self, task=task, kept={})

    def keep(self, name: str, **arrays: np.ndarray) -> None:
        """Store arrays (numbers or text) beside the rows of the extractor that measures, under the same key: what it found for
        each
        example. `FeatureStore.arrays` gives them back.
        """
        self.kept[name] = {key: np.asarray(value) for key, value in arrays.items()}

    @property
    def a_task(self) -> Task:
        """The task, for an extractor that has one by its scope."""
        if self.task is None:
            raise TypeError("this extractor needs a task")
        return self.task

    def examples(self, split: str = "features") -> list[Example]:
        """The task's examples in a role: `features` (measure on these), `shots`, `train`; never `test`."""
        if split == "test":
            raise ValueError("a feature is never measured on the examples that outcomes are measured on")
        return self.a_task.examples(split)


class Extractor(Protocol):
    """Measures features of one checkpoint, or of one checkpoint on one task.

    Attributes
    ----------
    name : as in EXTRACTORS and in `--features`
    version : raised whenever the code would give another number; part of the store's key
    scope : "checkpoint" (measured once) or "task" (once for each task)
    produces : patterns of the names of its features; left out, it produces `name` and `name_*`
    default : whether it is measured when no features are named; left out, it is
    """

    name: ClassVar[str]
    version: ClassVar[int]
    scope: ClassVar[Literal["checkpoint", "task"]]

    def settings(self) -> dict[str, Any]:
        """Everything that changes the numbers, as JSON; part of the store's key."""

    def data_digest(self, task: Task | None, corpora: Corpora) -> str:
        """Digest of the data that it reads, of both splits for a task; part of the store's key."""

    def applies(self, kind: str, task: Task | None) -> bool:
        """Whether it can measure a checkpoint of this kind (causal, seq2seq, masked) on this task."""

    def measure(self, session: Session) -> list[Feature]:
        """The features. `task` and `seconds` may be left empty: extraction fills them in. Raises CheckpointError where it
        cannot.
        """


@dataclass(frozen=True)
class Selection:
    """What `--features` named: extractors, the patterns of the names to keep of each (empty: all), and derived families."""

    extractors: tuple[str, ...]
    only: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    derived: tuple[str, ...] = ()

    def keeps(self, extractor: str, feature: Feature) -> bool:
        """Whether this feature was asked for."""
        wanted = self.only.get(extractor, ())
        return not wanted or any(fnmatch(feature.name, pattern) for pattern in wanted)


def load(name: str) -> Extractor:
    """The extractor of a name, made with its default settings. Raises UnknownNameError."""
    if name not in EXTRACTORS:
        raise UnknownNameError(f"no extractor named {name!r}", where="--features", remedy=closest(name, EXTRACTORS))
    module, _, attribute = EXTRACTORS[name].partition(":")
    return cast(Extractor, getattr(importlib.import_module(module), attribute)())


def produces(name: str) -> tuple[str, ...]:
    """Patterns of the feature names that an extractor, or a derived family, produces."""
    if name in DERIVED:
        return DERIVED[name]
    return tuple(getattr(load(name), "produces", (name, f"{name}_*")))


@lru_cache(maxsize=4096)
def by_default(feature: str) -> bool:
    """Whether a feature of this name is measured when none is named; true of a name that no extractor produces."""
    makers = [e for e in EXTRACTORS if any(fnmatch(feature, pattern) for pattern in produces(e))]
    return not makers or any(getattr(load(e), "default", True) for e in makers)


def select(names: Iterable[str] | None) -> Selection:
    """The extractors of `--features`: names of extractors (`kshot`), derived families (`dynamics`) or features (`kshot_acc`), in
    any order. None: every default one.

    Raises UnknownNameError, with the nearest name, for what no extractor produces.
    """
    if names is None:
        return Selection(tuple(n for n in EXTRACTORS if getattr(load(n), "default", True)), derived=tuple(DERIVED))
    families = {**EXTRACTORS, **DERIVED}
    wanted = [name.strip() for name in names if name.strip()]
    if not wanted:
        raise UnknownNameError("no features are named", where="--features", remedy=f"known are: {', '.join(families)}")
    only: dict[str, list[str]] = {}
    whole = {name for name in wanted if name in families}
    for name in wanted:
        if name in families:
            continue
        makers = [family for family in families if any(fnmatch(name, pattern) for pattern in produces(family))]
        if not makers:
            patterns = [pattern.rstrip("_*") for family in families for pattern in produces(family)]
            raise UnknownNameError(f"no feature named {name!r}", where="--features", remedy=closest(name, {*families, *patterns}))
        for family in makers:
            only.setdefault(family, []).append(name)
    derived = tuple(name for name in DERIVED if name in whole or name in only)
    for needed in (NEEDED[name] for name in derived if name in NEEDED):
        if needed not in whole and needed not in only:
            only[needed] = [""]  # measured, but none of its own rows was asked for
    chosen = tuple(name for name in EXTRACTORS if name in whole or name in only)
    return Selection(chosen, {name: tuple(patterns) for name, patterns in only.items() if name not in whole}, derived)
