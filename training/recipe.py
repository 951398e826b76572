"""The recipe of a zoo: a YAML file, read strictly. `docs/zoo.md` shows one with every key.

A recipe names its corpora (built in, or files), the mixes of them, one architecture, one training schedule, and either a list
of variants or a design from which they are drawn in order (training.design).
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from features.errors import ManifestError
from features.manifest import read_yaml
from training import design, mixture, objectives

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$", max_length=80)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Tokenizer(_Strict):
    """The shared tokenizer: `vocabulary` entries, of which `sentinels` are sentinels; trained on `characters` of each corpus."""

    vocabulary: int = Field(default=4096, ge=300, le=65_535)
    sentinels: int = Field(default=64, ge=1, le=1024)
    characters: int = Field(default=1_000_000, ge=1000)


class Architecture(_Strict):
    """The one shape of all variants: a Llama-style decoder (causal), a T5 (seq2seq) or a BERT (masked)."""

    kind: Literal["causal", "seq2seq", "masked"] = "causal"
    layers: int = Field(default=4, ge=1)
    width: int = Field(default=128, ge=8)
    heads: int = Field(default=4, ge=1)
    feed_forward: int = Field(default=344, ge=8)
    context: int = Field(default=256, ge=16)


class Schedule(_Strict):
    """How each variant is trained. `tokens` counts the places that the model computes over; `rows` are sequences in a batch."""

    tokens: int = Field(ge=1)
    rows: int = Field(default=32, ge=1)
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: float = Field(default=0.05, ge=0, le=1)
    weight_decay: float = Field(default=0.1, ge=0)
    clip: float = Field(default=1.0, gt=0)
    save_dtype: Literal["float16", "bfloat16"] = "float16"
    state_every: int = Field(default=50, ge=1)


class Trajectory(_Strict):
    """Intermediate checkpoints: of the first `variants`, `checkpoints` each, the last included, at equal or at doubling
    distances.
    """

    variants: int = Field(default=0, ge=0)
    checkpoints: int = Field(default=12, ge=2)
    spacing: Literal["linear", "log"] = "log"


class Corpus(_Strict):
    """Where a corpus's text is, and the domain that a tagged document names."""

    source: str
    tag: str = ""


class Reference(_Strict):
    """The held-out text on which perplexity is measured: some documents of each corpus, cut to so many characters."""

    documents: int = Field(default=8, ge=1)
    characters: int = Field(default=1500, ge=100)


class Variant(_Strict):
    """One run of the recipe."""

    name: Name
    objective: str
    data_mix: str
    learning_rate: float = Field(gt=0, le=1)
    domain_tag: Literal[0, 1] = 0
    length_filter: str = "all"


class Factors(_Strict):
    """The levels of each factor of a design."""

    objective: list[str]
    data_mix: list[str]
    learning_rate: list[float]
    domain_tag: list[Literal[0, 1]] = [0]
    length_filter: list[str] = ["all"]


class Design(_Strict):
    """So many runs of a balanced fraction of the factors' combinations."""

    runs: int = Field(ge=1)
    factors: Factors


class Recipe(_Strict):
    """A recipe as read; `path` is the file it came from."""

    zoo: Name
    seed: int = Field(default=0, ge=0, lt=2**31)
    tokenizer: Tokenizer = Tokenizer()
    architecture: Architecture = Architecture()
    training: Schedule
    corpora: dict[Name, Corpus]
    mixes: dict[Name, dict[str, float]]
    reference: Reference = Reference()
    trajectory: Trajectory = Trajectory()
    variants: list[Variant] = []
    design: Design | None = None
    path: Path = Path()

    @property
    def steps(self) -> int:
        """Steps of a run: as many as its tokens fill, at least one."""
        return max(1, round(self.training.tokens / (self.training.rows * self.architecture.context)))

    def runs(self) -> list[Variant]:
        """The variants in the order in which they are built."""
        if self.design is None:
            return list(self.variants)
        factors: dict[str, list[Any]] = {k: list(v) for k, v in self.design.factors}
        runs = design.plan(factors, self.design.runs, self.seed)
        return [
            Variant.model_validate({"name": f"{i:02d}-{run['objective']}-{run['data_mix']}", **run})
            for i, run in enumerate(runs, start=1)
        ]

    def keep_at(self, place: int) -> list[int]:
        """The steps after which the variant in `place` (from 0) leaves a checkpoint; the last step always."""
        if place >= self.trajectory.variants:
            return [self.steps]
        count = min(self.trajectory.checkpoints, self.steps)
        if self.trajectory.spacing == "linear":
            return sorted({round(self.steps * (i + 1) / count) for i in range(count)})
        marks = {self.steps}
        ratio = self.steps ** (1 / max(1, count - 1))
        while len(marks) < count:  # early marks fall together on whole steps: the ratio shrinks until there are enough of them
            marks = {max(1, round(self.steps / ratio**i)) for i in range(count)}
            marks |= set(range(1, count - len(marks) + 1)) if len(marks) < count and ratio < 1.01 else set()
            ratio *= 0.99
        return sorted(marks)


def read(path: str | Path) -> Recipe:
    """Read and check a recipe. Shipped recipes go by their bare name: `demo`, `pilot`, `reference`.

    Raises
    ------
    ManifestError : naming the file and the key
    """
    shipped = {file.stem: file for file in (Path(__file__).parent / "recipes").glob("*.yaml")}
    file = Path(path)
    if not os.path.exists(file):
        if str(path) not in shipped:
            raise ManifestError(
                "no such recipe", where=str(path), remedy=f"give a YAML file, or one of {', '.join(sorted(shipped))}"
            )
        file = shipped[str(path)]
    content = read_yaml(file, what="recipe", page="docs/zoo.md")
    if isinstance(corpora := content.get("corpora"), dict):  # the short form of one is `name: file`
        content["corpora"] = {name: {"source": corpus} if isinstance(corpus, str) else corpus for name, corpus in corpora.items()}
    if "path" in content:
        raise ManifestError("unknown key", where=f"{file}: path", remedy="remove it")
    try:
        recipe = Recipe.model_validate({**content, "path": file})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        found = (
            "unknown key"
            if first["type"] == "extra_forbidden"
            else f"{first['msg'].lower()} (found {str(first['input'])[:60]!r})"
        )
        raise ManifestError(found, where=f"{file}: {where}", remedy="see docs/zoo.md for the keys of a recipe") from error
    _check(recipe, str(file))
    return recipe


def _check(recipe: Recipe, file: str) -> None:
    """What one field cannot say alone."""
    if (recipe.design is None) == (not recipe.variants):
        raise ManifestError("needs either variants or a design", where=file, remedy="give one of the two")
    shape = recipe.architecture
    if shape.width % (2 * shape.heads):
        raise ManifestError(
            f"width {shape.width} over {shape.heads} heads is not an even number",
            where=f"{file}: architecture",
            remedy="change either",
        )
    if recipe.tokenizer.vocabulary < 256 + recipe.tokenizer.sentinels + 6:
        raise ManifestError(
            "has no room for the bytes, the specials and the sentinels", where=f"{file}: tokenizer.vocabulary", remedy="raise it"
        )
    for mix, shares in recipe.mixes.items():
        where = f"{file}: mixes.{mix}"
        if unknown := sorted(set(shares) - set(recipe.corpora)):
            raise ManifestError(
                f"no corpus {unknown[0]!r}", where=where, remedy=f"use corpora that the recipe names: {', '.join(recipe.corpora)}"
            )
        if not shares or min(shares.values()) <= 0 or not math.isfinite(sum(shares.values())):
            raise ManifestError("needs corpora with finite shares above 0", where=where, remedy="give each corpus a share")
    try:
        runs = recipe.runs()
    except ValueError as error:
        raise ManifestError(str(error), where=f"{file}: design", remedy="correct the factors or the number of runs") from error
    for place, run in enumerate(runs):
        where = f"{file}: " + (f"variants[{place}]" if recipe.design is None else "design.factors")
        objectives.check(run.objective, shape.kind, f"{where}.objective")
        for part, _ in objectives.OBJECTIVES[run.objective]:
            raw = objectives.raw_length(part, shape.kind, shape.context)
            if (
                isinstance(part, objectives.Spans)
                and shape.kind != "masked"
                and objectives.noise_counts(raw, part)[1] > recipe.tokenizer.sentinels
            ):
                need = objectives.noise_counts(raw, part)[1]
                raise ManifestError(
                    f"{run.objective} needs {need} sentinels", where=f"{file}: tokenizer.sentinels", remedy="raise it"
                )
        if run.data_mix not in recipe.mixes:
            raise ManifestError(
                f"no mix {run.data_mix!r}", where=f"{where}.data_mix", remedy=f"use one of {', '.join(recipe.mixes)}"
            )
        try:
            mixture.length_bounds(run.length_filter)
        except ValueError as error:
            raise ManifestError(
                f"not a length filter: {run.length_filter!r}",
                where=f"{where}.length_filter",
                remedy='use "all" or percentiles like "25-75"',
            ) from error
    names = [run.name for run in runs]
    if twice := sorted({name for name in names if names.count(name) > 1 or re.fullmatch(r"\.+", name)}):
        raise ManifestError(f"two variants are called {twice[0]!r}", where=f"{file}: variants", remedy="name each once")
