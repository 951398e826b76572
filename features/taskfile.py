"""The task file's schema: a declarative subset of the lm-evaluation-harness task YAML, read strictly.

A file of that harness is read as it is, so far as it declares: `!function`, `include` and `group` are refused by name. The
keys that the harness does not have are `data` (a local file), `templates` (several prompts for one task), `labels` (names of
the choices, where the data's label column holds other words than the prompt) and `features_split`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from features.errors import ManifestError
from features.manifest import Fields, closest, kind_of, named_path, read_yaml

SPLIT_KEYS = ("training_split", "validation_split", "test_split", "fewshot_split", "features_split")
# Keys of the harness that are about its own reporting; read past, because they change no prompt, choice or split.
INERT = (
    "tag",
    "task_alias",
    "metadata",
    "metric_list",
    "should_decontaminate",
    "doc_to_decontamination_query",
    "generation_kwargs",
    "repeats",
    "unsafe_code",
)
# Keys of the harness that would change what is measured, and that are not supported: why, and what to do instead.
REFUSED = {
    "include": "another file's keys would be taken over; copy them into this file",
    "group": "a group is several tasks; name their files one by one",
    "process_docs": "it is code; prepare the data beforehand",
    "process_results": "it is code; leave it out",
    "custom_dataset": "it is code; name the data with `data`",
    "filter_list": "filters rewrite generated text; leave it out",
    "gen_prefix": "end doc_to_text with the prefix instead",
    "use_prompt": "write the prompt in doc_to_text",
    "doc_to_image": "images are not supported",
    "doc_to_audio": "audio is not supported",
    "fewshot_config": "shots are drawn seeded from fewshot_split; leave it out",
}
KNOWN = (
    "task",
    "data",
    "dataset_path",
    "dataset_name",
    "dataset_kwargs",
    "output_type",
    *SPLIT_KEYS,
    "doc_to_text",
    "doc_to_target",
    "doc_to_choice",
    "templates",
    "labels",
    "description",
    "target_delimiter",
    "fewshot_delimiter",
    "num_fewshot",
    "seed",
    *INERT,
)
OUTPUT_TYPES = ("multiple_choice", "generate_until", "loglikelihood")
DEFAULT_SHOTS = 5


@dataclass(frozen=True)
class Template:
    """One prompt: a Jinja text (or field), and the choices: a list, a Jinja text that renders to one, or a field; None in
    generation.
    """

    text: str
    choices: tuple[str, ...] | str | None
    name: str


@dataclass(frozen=True)
class TaskFile:
    """What a task file says, checked so far as it can be without the data. Attributes are named as its keys."""

    task: str
    path: Path
    data: Mapping[str, Path] = field(default_factory=dict)  # split -> file; "" for a file that has its own splits
    dataset_path: str | None = None
    dataset_name: str | None = None
    revision: str | None = None
    output_type: str | None = None
    splits: Mapping[str, str] = field(default_factory=dict)
    templates: tuple[Template, ...] = ()
    doc_to_target: str | int | None = None
    labels: tuple[str, ...] = ()
    description: str = ""
    target_delimiter: str = " "
    fewshot_delimiter: str = "\n\n"
    num_fewshot: int | None = None
    seed: int = 0

    @classmethod
    def read(cls, path: Path) -> TaskFile:
        """Read a task YAML, or take a data file (.jsonl, .csv, ...) as a task whose fields say what it is."""
        name = path.name.lower().removesuffix(".gz")
        if not name.endswith((".yaml", ".yml")):
            if not path.exists():
                raise ManifestError(
                    "no such task file", where=str(path), remedy="check the path; it is relative to the file that names it"
                )
            return cls(task=path.name.split(".")[0], path=path, data={"": path})
        mapping = read_yaml(path, what="task")
        for key, why in REFUSED.items():
            if mapping.get(key) is not None:
                raise ManifestError(f"the key {key!r} is not supported", where=str(path), remedy=why)
        fields = Fields(mapping, where=str(path), known=KNOWN)
        data, hub, revision = _source(fields, path.parent)
        output_type = fields.get("output_type", str, None)
        if output_type is not None and output_type not in OUTPUT_TYPES:
            raise ManifestError(
                f"unknown output type {output_type!r}", where=fields.at("output_type"), remedy=closest(output_type, OUTPUT_TYPES)
            )
        shots = fields.get("num_fewshot", int, None)
        if shots is not None and shots < 0:
            raise ManifestError(f"expected 0 or more, found {shots}", where=fields.at("num_fewshot"), remedy="0 means no shots")
        return cls(
            task=fields.get("task", str, path.stem),
            path=path,
            data=data,
            dataset_path=hub,
            dataset_name=fields.get("dataset_name", str, None),
            revision=revision,
            output_type=output_type,
            splits={key: fields.get(key, str) for key in SPLIT_KEYS if mapping.get(key) is not None},
            templates=_templates(fields),
            doc_to_target=fields.get("doc_to_target", (str, int), None),
            labels=_texts(fields.get("labels", list, []), fields.at("labels")),
            description=fields.get("description", str, ""),
            target_delimiter=fields.get("target_delimiter", str, " "),
            fewshot_delimiter=fields.get("fewshot_delimiter", str, "\n\n"),
            num_fewshot=shots,
            seed=fields.get("seed", int, 0),
        )


def _source(fields: Fields, root: Path) -> tuple[dict[str, Path], str | None, str | None]:
    data = fields.get("data", (str, dict), None)
    hub = fields.get("dataset_path", str, None)
    arguments = fields.get("dataset_kwargs", dict, {})
    for key in arguments:
        if key not in ("data_files", "revision", "trust_remote_code"):
            raise ManifestError(
                f"unknown key {key!r}", where=fields.at("dataset_kwargs"), remedy=closest(str(key), ("data_files", "revision"))
            )
    if arguments.get("trust_remote_code"):
        raise ManifestError(
            "code of a data set is not run",
            where=fields.at("dataset_kwargs.trust_remote_code"),
            remedy="name a local file with `data:`",
        )
    if data is not None and hub is not None:
        raise ManifestError("both `data` and `dataset_path` are there", where=fields.where, remedy="keep one of the two")
    if hub in ("json", "csv", "parquet") and "data_files" in arguments:
        data, hub = arguments["data_files"], None  # the harness's way to name a local file
    if data is None and hub is None:
        raise ManifestError(
            "no data is named", where=fields.where, remedy="add `data:` (a local file) or `dataset_path:` (a Hub data set)"
        )
    if data is None:
        return {}, hub, arguments.get("revision")
    files = {}
    for split, name in (data if isinstance(data, dict) else {"": data}).items():
        where = fields.at(f"data.{split}" if split else "data")
        files[str(split)] = named_path(name, root, where=where, what="data")
    return files, None, None


def _texts(values: list[Any], where: str) -> tuple[str, ...]:
    for i, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ManifestError(f"expected text, found {kind_of(value)}", where=f"{where}[{i}]", remedy="put it in quotes")
    texts = tuple(str(value) for value in values)
    for i, text in enumerate(texts):
        if text in texts[:i]:
            raise ManifestError(
                f"{text!r} is there twice", where=f"{where}[{i}]", remedy="make each choice differ from the others"
            )
        if not text:
            raise ManifestError("empty text", where=f"{where}[{i}]", remedy="write a word there")
    return texts


def _choices(value: Any, where: str) -> tuple[str, ...] | str | None:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        texts = _texts(value, where)
        if len(texts) < 2:
            raise ManifestError(
                f"expected at least 2 choices, found {len(texts)}", where=where, remedy="list every answer to choose from"
            )
        return texts
    return value


def _templates(fields: Fields) -> tuple[Template, ...]:
    text = fields.get("doc_to_text", str, None)
    choices = _choices(fields.get("doc_to_choice", (list, str, dict), None), fields.at("doc_to_choice"))
    listed = fields.get("templates", list, None)
    if listed is None:
        return (Template(text, choices, "t0"),) if text is not None else ()
    if text is not None:
        raise ManifestError(
            "both `doc_to_text` and `templates` are there", where=fields.where, remedy="move the first into the second"
        )
    if not listed:
        raise ManifestError("an empty list", where=fields.at("templates"), remedy="write at least one {text, choices}")
    made: list[Template] = []
    for i, item in enumerate(listed):
        inner = Fields(item, where=fields.at(f"templates[{i}]"), known=("name", "text", "choices"))
        own = _choices(inner.get("choices", (list, str, dict), None), inner.at("choices"))
        name = inner.get("name", str, f"t{i}")
        if not name.replace("_", "").replace("-", "").isalnum():
            raise ManifestError(
                f"the name {name!r} becomes part of a column", where=inner.at("name"), remedy="use letters, digits, - and _"
            )
        if name in [template.name for template in made]:
            raise ManifestError(f"the name {name!r} is there twice", where=inner.at("name"), remedy="give each template its own")
        made.append(Template(inner.get("text", str), own if own is not None else choices, name))
    for i, template in enumerate(made):
        if (template.choices is None) != (made[0].choices is None):
            raise ManifestError(
                "choices are missing", where=fields.at(f"templates[{i}]"), remedy="give every template choices, or none"
            )
        if (
            isinstance(template.choices, tuple)
            and isinstance(made[0].choices, tuple)
            and len(template.choices) != len(made[0].choices)
        ):
            raise ManifestError(
                f"expected {len(made[0].choices)} choices as in templates[0], found {len(template.choices)}",
                where=fields.at(f"templates[{i}].choices"),
                remedy="list the choices of every template in the same order of labels",
            )
    return tuple(made)
