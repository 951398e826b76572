"""Strict reading of the YAML files that users write: every mistake is an error that names the file, the field and the remedy.

The loader is PyYAML's safe loader with three changes, all of them to avoid silent surprises: a key written twice is refused;
``no``, ``yes``,
``on`` and ``off`` are text (as in YAML 1.2; `choices: [no, yes]` means two words); ``1e-3`` is a number. A tag such as
``!function`` is refused by name: nothing in a manifest can run code.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from features.errors import ManifestError

_NOTHING = object()


_CODE = "nothing in a manifest can run code: write a Jinja template or a list instead"


class _Loader(yaml.SafeLoader):
    """Safe loader with YAML 1.2 booleans and floats, unique keys that are text, no tags. The `note` of an error is its remedy."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """As PyYAML's, but a scalar that no value can be made of (`2024-13-45`) is an error with its place, and so is one that
        cannot be written down again: a number of thousands of digits, half of a surrogate pair.
        """
        try:
            value = super().construct_object(node, deep)
            if isinstance(node, yaml.ScalarNode):
                str(value).encode()
        except (ValueError, LookupError, AttributeError):
            raise yaml.constructor.ConstructorError(
                None, None, f"{node.value[:40]!r} cannot be read", node.start_mark, "correct it; put it in quotes if it is text"
            ) from None
        return value


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in rules if tag not in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:float")]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^(?:[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9]+|[0-9][0-9_]*(?=[eE]))(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, value_node in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(
                None, None, "a key that is not text", key_node.start_mark, "put a template in quotes: '{{ text }}'"
            )
        key = key_node.value
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is written twice", key_node.start_mark)
        seen.add(key)
        if value_node.tag.startswith("!"):
            raise yaml.constructor.ConstructorError(
                None, None, f"{key}: the tag {value_node.tag} is refused", value_node.start_mark, _CODE
            )
    return loader.construct_mapping(node, deep=True)


def _tagged(loader: _Loader, suffix: str, node: yaml.Node) -> Any:
    raise yaml.constructor.ConstructorError(None, None, f"the tag !{suffix} is refused", node.start_mark, _CODE)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Loader.add_multi_constructor("!", _tagged)


def read_yaml(path: str | Path, *, what: str = "manifest", page: str = "docs/tasks.md") -> dict[str, Any]:
    """The mapping in a YAML file. Raises ManifestError: missing, not YAML, not a mapping, a key twice, a value that cannot be
    read, a tag such as ``!function``. `what` the file is and the `page` that tells of its keys are for messages.
    """
    path = Path(path)
    if not os.path.exists(path):  # Path.exists() raises where the name is too long for the file system
        raise ManifestError(
            f"no such {what} file", where=str(path), remedy="check the path; it is taken relative to the file that names it"
        )
    if path.is_dir():
        raise ManifestError(
            f"a folder, where a {what} file was expected", where=str(path), remedy=f"name the YAML file of the {what}"
        )
    try:
        loaded = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=_Loader)
    except UnicodeDecodeError as error:
        raise ManifestError(
            f"not UTF-8 text ({error.reason} at byte {error.start})", where=str(path), remedy="save it as UTF-8"
        ) from None
    except yaml.MarkedYAMLError as error:
        line = f": line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ManifestError(
            error.problem or "not YAML", where=f"{path}{line}", remedy=error.note or "mend the YAML there"
        ) from None
    except RecursionError:
        raise ManifestError("nested too deeply", where=str(path), remedy="mend the YAML") from None
    except yaml.YAMLError as error:
        raise ManifestError(f"not YAML ({str(error).splitlines()[0]})", where=str(path), remedy="mend the YAML") from None
    if loaded is None:
        raise ManifestError(f"an empty {what} file", where=str(path), remedy=f"see {page} for the keys")
    if not isinstance(loaded, dict):
        raise ManifestError(
            f"a {what} is a mapping of keys to values, found {kind_of(loaded)}",
            where=str(path),
            remedy=f"see {page} for the keys",
        )
    return loaded


def named_path(item: Any, root: Path, *, where: str, what: str) -> Path:
    """The path that a manifest names: of a file that is there, relative to `root`. Raises ManifestError for anything else."""
    if not isinstance(item, str):
        raise ManifestError(f"expected a path, found {kind_of(item)}", where=where, remedy=f"name the {what} file")
    path = root / os.path.expanduser(item)  # leaves ~nobody as it is, where Path.expanduser() raises
    if not os.path.isfile(path):
        raise ManifestError(f"no such {what} file: {item}", where=where, remedy=f"paths are relative to {root.resolve()}")
    return path


def closest(name: str, known: Iterable[str]) -> str:
    """`did you mean ...?`, or the list of what is known: the remedy for a name that is not known."""
    names = [str(k) for k in known]
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known are: {', '.join(sorted(names))}" if names else "there are none"


def kind_of(value: Any) -> str:
    """What a value is, in the words of a person who writes YAML."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the text {value[:60]!r}"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, Mapping):
        return "a mapping"
    return f"a {type(value).__name__}"


_TYPES = {str: "text", int: "a whole number", float: "a number", bool: "true or false", list: "a list", dict: "a mapping"}


# Text that is part of a prompt: without a prompt of its own, an example is its choices alone, as in BLiMP.
_MAY_BE_EMPTY = ("doc_to_text", "text", "description", "target_delimiter", "fewshot_delimiter")


class Fields:
    """One mapping of a manifest, read key by key.

    Parameters
    ----------
    mapping : what the file holds there
    where : the file and the field, for messages, e.g. ``zoo.yaml: checkpoints[2]``
    known : the keys that may stand there; any other raises ManifestError with the nearest known one
    """

    def __init__(self, mapping: Any, *, where: str, known: Iterable[str]) -> None:
        self.where, self.known = where, tuple(known)
        if not isinstance(mapping, Mapping):
            raise ManifestError(
                f"expected a mapping, found {kind_of(mapping)}", where=where, remedy=f"its keys are: {', '.join(self.known)}"
            )
        for key in mapping:
            if key not in self.known:
                raise ManifestError(f"unknown key {str(key)!r}", where=where, remedy=closest(str(key), self.known))
        self.mapping = mapping

    def at(self, key: str) -> str:
        """Where a key stands, for messages."""
        return f"{self.where}{'.' if ': ' in self.where else ': '}{key}"

    def get(self, key: str, kind: type | tuple[type, ...], default: Any = _NOTHING) -> Any:
        """The value of a key, checked to be of `kind`. Without a default the key must be there. An empty value counts as left
        out.

        Raises ManifestError for a key that is missing or of another type. A whole number serves where a number is asked for.
        """
        value = self.mapping.get(key)
        if value is None:
            if default is _NOTHING:
                raise ManifestError(f"{key!r} is missing", where=self.where, remedy=f"add the key {key!r}")
            return default
        kinds = kind if isinstance(kind, tuple) else (kind,)
        right = isinstance(value, kinds) or (float in kinds and isinstance(value, int))
        if isinstance(value, bool) and bool not in kinds:
            right = False
        if not right:
            wanted = " or ".join(_TYPES.get(k, k.__name__) for k in kinds)
            quote = "; put it in quotes" if str in kinds and isinstance(value, bool | int | float) else ""
            raise ManifestError(
                f"expected {wanted}, found {kind_of(value)}", where=self.at(key), remedy=f"write {wanted} there{quote}"
            )
        if float in kinds and int not in kinds and isinstance(value, int):
            return float(value)
        if isinstance(value, str) and not value.strip() and key not in _MAY_BE_EMPTY:
            raise ManifestError("empty text", where=self.at(key), remedy="write a value or leave the key out")
        return value
