"""The zoo manifest: which checkpoints there are, where they lie and what the user knows of them.

    zoo: mine
    checkpoints:
      - name: small                      # unique; of the rest only `model` must be given
        model: ./small                   # a folder of save_pretrained, relative to this file, or a Hub id
        revision: main
        gguf_file: model.gguf
        family: mine
        step: 1000
        meta: {learning_rate: 0.001, tokens: 2.0e+9, objective: clm}
    tasks: [films.yaml]
    corpora: {reference: held_out.jsonl}

A checkpoint whose folder is missing is not a mistake of the manifest: the zoo is read, and extraction reports that checkpoint
and goes on with the rest. A task or corpus file that is missing is an error at once.
"""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from features.errors import ManifestError, UnknownNameError
from features.manifest import Fields, closest, kind_of, named_path, read_yaml
from features.rows import FEATURE_COLUMNS

# Columns of the comparison table that are not metadata: metadata under these names would overwrite them.
RESERVED = frozenset(FEATURE_COLUMNS) | {"outcome", "outcome_sd", "group", "family", "step", "architecture", "kind"}
RESERVED |= {"parameters", "layers", "width", "heads", "vocabulary", "window"}

Meta = str | float | int | bool


@dataclass(frozen=True)
class Checkpoint:
    """One set of pre-trained weights, as the manifest names it.

    Attributes
    ----------
    name : unique in its zoo
    model : a folder (relative to the manifest) or a Hub id, as written
    revision, gguf_file : which version of a Hub id, which GGUF file of the folder
    family, step : which run it comes from and how far into it
    meta : what the user knows (objective, learning rate, tokens, ...); becomes configurations in the comparison table
    root : folder of the manifest
    """

    name: str
    model: str
    revision: str | None = None
    gguf_file: str | None = None
    family: str | None = None
    step: int | None = None
    meta: Mapping[str, Meta] = field(default_factory=dict)
    root: Path = Path(".")

    @property
    def is_local(self) -> bool:
        """Whether `model` is a folder: one that exists beside the manifest, or text that can only be a path."""
        looks_like_a_path = (
            self.model.startswith((".", "/", "~")) or self.model.endswith(("/", ".gguf", ".safetensors")) or "\\" in self.model
        )
        return looks_like_a_path or self.model.count("/") > 1 or os.path.exists(self._folder)

    @property
    def _folder(self) -> Path:
        return self.root / os.path.expanduser(self.model)

    @property
    def location(self) -> str:
        """The resolved folder, or the Hub id."""
        return str(self._folder.resolve()) if self.is_local else self.model


@dataclass(frozen=True)
class Zoo:
    """The checkpoints to choose from. `Zoo.read(path)` reads and checks a manifest.

    Attributes
    ----------
    name : of the zoo; the file's stem if left out
    checkpoints : in the order of the manifest
    tasks : paths of the task files, resolved
    corpora : name -> path of text for perplexity, resolved; empty means the built-in sample
    path : the manifest
    """

    name: str
    checkpoints: tuple[Checkpoint, ...]
    tasks: tuple[Path, ...] = ()
    corpora: Mapping[str, Path] = field(default_factory=dict)
    path: Path | None = None

    @classmethod
    def read(cls, path: str | Path) -> Zoo:
        """Read a manifest. Raises ManifestError for anything that is not as documented."""
        path = Path(path)
        fields = Fields(read_yaml(path, what="zoo"), where=str(path), known=("zoo", "checkpoints", "tasks", "corpora"))
        root = path.parent
        listed = fields.get("checkpoints", list)
        if not listed:
            raise ManifestError("an empty list", where=fields.at("checkpoints"), remedy="name at least one checkpoint")
        checkpoints = tuple(_checkpoint(item, where=fields.at(f"checkpoints[{i}]"), root=root) for i, item in enumerate(listed))
        first: dict[str, int] = {}
        for i, checkpoint in enumerate(checkpoints):
            if checkpoint.name in first:
                raise ManifestError(
                    f"the name {checkpoint.name!r} is taken by checkpoints[{first[checkpoint.name]}]",
                    where=fields.at(f"checkpoints[{i}].name"),
                    remedy="give each checkpoint a name of its own",
                )
            first[checkpoint.name] = i
        tasks = []
        for i, item in enumerate(fields.get("tasks", list, [])):
            tasks.append(named_path(item, root, where=fields.at(f"tasks[{i}]"), what="task"))
        corpora = {}
        for name, item in fields.get("corpora", dict, {}).items():
            corpora[str(name)] = named_path(item, root, where=fields.at(f"corpora.{name}"), what="corpus")
        return cls(fields.get("zoo", str, path.stem), checkpoints, tuple(tasks), corpora, path)

    def __getitem__(self, name: str) -> Checkpoint:
        for checkpoint in self.checkpoints:
            if checkpoint.name == name:
                return checkpoint
        raise UnknownNameError(
            f"no checkpoint named {name!r}",
            where=str(self.path or self.name),
            remedy=closest(name, (c.name for c in self.checkpoints)),
        )


def _checkpoint(item: object, *, where: str, root: Path) -> Checkpoint:
    fields = Fields(item, where=where, known=("name", "model", "revision", "gguf_file", "family", "step", "meta"))
    step = fields.get("step", int, None)
    if step is not None and step < 0:
        raise ManifestError(f"expected a step of 0 or more, found {step}", where=fields.at("step"), remedy="count steps from 0")
    meta = fields.get("meta", dict, {})
    for key, value in meta.items():
        at = fields.at(f"meta.{key}")
        if not isinstance(key, str):
            raise ManifestError(f"expected a name, found {kind_of(key)}", where=at, remedy="put it in quotes")
        if not isinstance(value, str | int | float | bool) or (isinstance(value, float) and not math.isfinite(value)):
            raise ManifestError(
                f"expected text or a finite number, found {kind_of(value)}",
                where=at,
                remedy="give one value, or leave the key out",
            )
        if key in RESERVED:
            raise ManifestError(
                f"the name {key!r} is a column that foretune fills itself", where=at, remedy="choose another name"
            )
    model = fields.get("model", str)
    try:
        os.stat(root / os.path.expanduser(model))
    except (OSError, ValueError) as error:  # a folder that is not there is reported later; what no folder can be called is not
        if isinstance(error, ValueError) or error.errno == errno.ENAMETOOLONG:
            raise ManifestError(
                f"neither a path nor a Hub id: {kind_of(model)}", where=fields.at("model"), remedy="name a folder or a Hub model"
            ) from None
    return Checkpoint(
        name=fields.get("name", str),
        model=model,
        revision=fields.get("revision", str, None),
        gguf_file=fields.get("gguf_file", str, None),
        family=fields.get("family", str, None),
        step=step,
        meta=meta,
        root=root,
    )
