"""From a row of data to a rendered example: prompt, choices, gold. What lm-evaluation-harness would make of it, or an error
that says why not.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from features.errors import DataError, ManifestError
from features.forms import Form, recognise
from features.manifest import closest
from features.prompting import check, render
from features.taskdata import Row
from features.taskfile import TaskFile, Template

_INDEX = re.compile("[0-9]{1,9}")  # str.isdigit() holds of "²" too, which int() refuses
_TEXTS = ("text", "sentence", "question", "query", "premise", "context")


@dataclass(frozen=True)
class Rendered:
    """One example in one template.

    Attributes
    ----------
    query : the prompt; for a choice between contexts, the continuation that all contexts share
    choices : texts to choose from; () in generation and between contexts
    contexts : contexts to choose from; () everywhere else
    description : what stands before the shots
    """

    query: str
    choices: tuple[str, ...] = ()
    contexts: tuple[str, ...] = ()
    description: str = ""


class Renderer:
    """Renders the rows of a task file.

    Attributes
    ----------
    kind : "multiple_choice" or "generate"
    templates, labels : as the file says, or as the data's fields do
    fixed : whether every example has the same choices

    Raises ManifestError where the file and the data do not go together.
    """

    def __init__(self, file: TaskFile, rows: Sequence[Row]) -> None:
        self.file, self.where = file, str(file.path)
        self.fields: dict[str, None] = dict.fromkeys(name for row in rows[:100] for name in row.fields)
        self.form: Form | None = None
        output_type, self.target = file.output_type, file.doc_to_target
        if file.templates:
            self.templates: tuple[Template, ...] = file.templates
            self._check_templates()
        else:
            self.form = recognise(self.fields, rows[0].at.rsplit(": ", 1)[0])
            self.templates = (Template(self.form.text, self.form.choices, "t0"),)
            self.target = self.form.target if self.target is None else self.target
            output_type = output_type or self.form.output_type
        has_choices = self.templates[0].choices is not None or (self.form is not None and self.form.contexts is not None)
        self.kind: Literal["multiple_choice", "generate"] = "multiple_choice" if has_choices else "generate"
        self._check_type(output_type, has_choices)
        self._check_target()
        first = self.templates[0].choices
        self.fixed = isinstance(first, tuple)
        if file.labels and not (isinstance(first, tuple) and len(first) == len(file.labels)):
            found = f"{len(first)} choices" if isinstance(first, tuple) else "choices that differ from row to row"
            raise ManifestError(
                f"{len(file.labels)} labels for {found}", where=f"{self.where}: labels", remedy="name the choices, in their order"
            )
        self.labels: tuple[str, ...] = (file.labels or first) if isinstance(first, tuple) else ()

    def _check_templates(self) -> None:
        for i, template in enumerate(self.templates):
            at = f"templates[{i}]." if len(self.templates) > 1 or self.file.templates[0].name != "t0" else ""
            names = (f"{at}text", f"{at}choices") if at else ("doc_to_text", "doc_to_choice")
            if template.text not in self.fields:
                check(template.text, self.fields, where=f"{self.where}: {names[0]}")
            if isinstance(template.choices, str) and template.choices not in self.fields:
                check(template.choices, self.fields, where=f"{self.where}: {names[1]}")
                if "{" not in template.choices:
                    raise ManifestError(
                        f"{template.choices!r} is neither a list, a field nor a template",
                        where=f"{self.where}: {names[1]}",
                        remedy=closest(template.choices, self.fields),
                    )
        check(self.file.description, self.fields, where=f"{self.where}: description")

    def _check_type(self, output_type: str | None, has_choices: bool) -> None:
        if output_type == "multiple_choice" and not has_choices:
            raise ManifestError(
                "no choices",
                where=f"{self.where}: doc_to_choice",
                remedy="add doc_to_choice (a list, a field or a template), or another output_type",
            )
        if output_type in ("generate_until", "loglikelihood") and has_choices:
            raise ManifestError(
                f"choices in a task of type {output_type}",
                where=f"{self.where}: output_type",
                remedy="write multiple_choice, or drop the choices",
            )

    def _check_target(self) -> None:
        if self.target is None:
            what = "choices without a gold answer" if self.kind == "multiple_choice" else "no answer is named"
            known = [name for name in self.fields if name in ("label", "gold", "answer", "target", "answers")]
            remedy = (
                f"add `doc_to_target: {known[0]}`"
                if known
                else "add doc_to_target: the field (or a template) that holds the right answer"
            )
            raise ManifestError(what, where=f"{self.where}: doc_to_target", remedy=remedy)
        if isinstance(self.target, str) and self.target not in self.fields and self.form is None:
            check(self.target, self.fields, where=f"{self.where}: doc_to_target")
            if "{" not in self.target and not _INDEX.fullmatch(self.target):
                choices = self.templates[0].choices
                if not (isinstance(choices, tuple) and self.target in choices):
                    raise ManifestError(
                        f"{self.target!r} is neither a field nor a template",
                        where=f"{self.where}: doc_to_target",
                        remedy=closest(self.target, self.fields),
                    )

    def example_fields(self, row: Row) -> dict[str, Any]:
        """The fields of an Example made of a row, but for its id and its row. Raises DataError naming the row."""
        doc = row.fields
        description = render(self.file.description, doc, where="description", row_at=row.at)
        if self.form is not None and self.form.contexts is not None:
            options = self._list(doc.get(self.form.contexts), "context_options", row)
            continuation = doc.get("continuation")
            if not isinstance(continuation, str) or not continuation.strip():
                raise DataError("the continuation is empty", where=row.at, remedy="give it text")
            rendered: tuple[Rendered, ...] = (Rendered(continuation, (), options, description),)
            chosen: tuple[str, ...] = options
        else:
            rendered = tuple(
                Rendered(self._text(template, row), self._choices(template, row), (), description) for template in self.templates
            )
            chosen = rendered[0].choices
        gold, answers = self._gold(chosen, row) if self.kind == "multiple_choice" else (None, self._answers(row))
        numbers = [float(gold)] if gold is not None and self.fixed else _number(answers[0]) if self.kind == "generate" else []
        return {
            "rendered": rendered,
            "gold": gold,
            "answers": answers,
            "context": _context(doc),
            "text": _plain(doc) or rendered[0].query,
            "label": self.labels[gold] if self.labels and gold is not None else None,
            "target": numbers[0] if numbers else None,
        }

    def _text(self, template: Template, row: Row) -> str:
        if template.text not in self.fields:
            text = render(template.text, row.fields, where="doc_to_text", row_at=row.at)
        elif template.text in row.fields:
            text = str(row.fields[template.text])
        else:
            raise DataError(
                f"the field {template.text!r} is missing, which doc_to_text names", where=row.at, remedy="give the row that field"
            )
        if template.choices is not None and text.isascii() and text.isdecimal():  # to the harness, the index of a context
            raise DataError(
                f"doc_to_text gives the number {text}",
                where=row.at,
                remedy="write text there; a choice between contexts is ICL JSONL with context_options, continuation and gold",
            )
        return text

    def _choices(self, template: Template, row: Row) -> tuple[str, ...]:
        if template.choices is None or isinstance(template.choices, tuple):
            return template.choices or ()
        if template.choices in self.fields:
            return self._list(row.fields.get(template.choices), template.choices, row)
        text = render(template.choices, row.fields, where="doc_to_choice", row_at=row.at)
        return self._list(text, "doc_to_choice", row)

    def _list(self, value: Any, name: str, row: Row) -> tuple[str, ...]:
        if isinstance(value, str):
            try:
                value = ast.literal_eval(value)
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                raise DataError(
                    f"{name} is not a list: {value[:60]!r}", where=row.at, remedy='write it as ["first", "second"]'
                ) from None
        if isinstance(value, dict) and isinstance(value.get("text"), list):
            value = value["text"]  # the shape of ARC and its kin: {text: [...], label: [...]}
        if not isinstance(value, list | tuple) or len(value) < 2:
            raise DataError(f"{name} is not a list of at least 2", where=row.at, remedy="list every answer to choose from")
        if not all(isinstance(v, str | int | float) and str(v) for v in value):
            raise DataError(f"{name} has an empty entry or one that is not text", where=row.at, remedy="make each one a text")
        return tuple(str(v) for v in value)

    def _target(self, row: Row) -> tuple[Any, bool]:
        """The target's value, and whether a template rendered it."""
        target = self.target
        if not isinstance(target, str) or (target not in self.fields and "{" not in target):
            return target, False
        if target in self.fields:
            value = row.fields.get(target)
            if value is None or (isinstance(value, str) and not value.strip()) or value == []:
                raise DataError(
                    f"no gold answer: the field {target!r} is empty", where=row.at, remedy="give every row one, or drop the row"
                )
            return value, False
        return render(target, row.fields, where="doc_to_target", row_at=row.at), True

    def _gold(self, choices: tuple[str, ...], row: Row) -> tuple[int, tuple[str, ...]]:
        value, from_template = self._target(row)
        index: int | None = None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool):
            value = str(value) if str(value) in choices else int(value)
        if isinstance(value, int):
            index = value
        elif isinstance(value, str):
            stripped = value.strip()
            if not (from_template and _INDEX.fullmatch(value)):  # digits from a template are an index, as in the harness
                spellings = [(known, text) for text in (value, stripped) for known in (choices, self.labels)]
                index = next((known.index(text) for known, text in spellings if text in known), None)
            if index is None and _INDEX.fullmatch(stripped):
                index = int(stripped)
        if index is None or not 0 <= index < len(choices):
            shown = ", ".join(repr(choice[:30]) for choice in choices[:8])
            raise DataError(
                f"the gold answer {value!r} is none of the {len(choices)} choices ({shown}), nor an index of one",
                where=row.at,
                remedy="name the labels that the data uses, in the order of the choices, with `labels: [...]`"
                if self.fixed
                else "mend the row",
            )
        return index, (choices[index],)

    def _answers(self, row: Row) -> tuple[str, ...]:
        value, from_template = self._target(row)
        if from_template and value.startswith("[") and value.endswith("]"):
            try:
                value = ast.literal_eval(value)
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                value = str(value)
        values = list(value) if isinstance(value, list | tuple) else [value]
        if self.form is not None:  # the canonical answer first, then its aliases
            aliases = row.fields.get("aliases", row.fields.get("answers", []))
            first = row.fields.get("answer")
            values = [*([first] if isinstance(first, str) else []), *values, *(aliases if isinstance(aliases, list) else [])]
        texts = dict.fromkeys(str(v) for v in values if isinstance(v, str | int | float) and str(v).strip())
        if not texts:
            raise DataError("no answer", where=row.at, remedy="give every row an answer, or drop the row")
        return tuple(texts)


def _context(doc: Any) -> str:
    passages = doc.get("passages")
    if isinstance(passages, list):
        return "\n\n".join(str(passage) for passage in passages)
    context = doc.get("context")
    return context if isinstance(context, str) else ""


def _plain(doc: Any) -> str:
    first = next((doc[name] for name in _TEXTS if isinstance(doc.get(name), str)), "")
    second = next((doc[name] for name in ("text_pair", "hypothesis", "sentence2") if isinstance(doc.get(name), str)), "")
    return f"{first}\n{second}" if second else first


def _number(text: str) -> list[float]:
    try:
        return [float(text)]
    except ValueError:
        return []
