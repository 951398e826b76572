"""Data that says by its fields what it is: the prompt, choices and gold of a task whose file names no `doc_to_text`.

    fields                                   task
    query, choices, gold                     multiple choice (ICL JSONL)
    context_options, continuation, gold      multiple choice between contexts (ICL JSONL, Winograd style)
    context, continuation                    a continuation to be produced (ICL JSONL)
    context, answer [, aliases]              the same with aliases (ICL JSONL)
    question, choices, answer [, context]    multiple choice, the answer an index or a text
    question, answer|answers [, context | passages]    closed-book QA, or QA with context

The ICL JSONL forms are those of llm-foundry's in-context-learning tasks; prompts are joined to continuations by one space.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from features.errors import DataError

_CONTEXT = "{{context}}\n\n"
_PASSAGES = "{% for passage in passages %}{{passage}}\n\n{% endfor %}"


@dataclass(frozen=True)
class Form:
    """How to read the rows: Jinja text, the fields that hold the choices and the gold, and the output type."""

    text: str
    choices: str | None
    target: str
    output_type: str
    contexts: str | None = None  # the field of contexts to choose from, where those are what differs


def recognise(fields: Collection[str], where: str) -> Form:
    """The form of data with these fields. Raises DataError that says which fields are missing, or that a prompt must be
    written.
    """
    have = set(fields)
    gold = next((name for name in ("gold", "answer", "label", "target") if name in have), None)
    if {"context_options", "continuation"} <= have:
        _need(gold, have, "context_options", where)
        return Form("", None, str(gold), "multiple_choice", contexts="context_options")
    if "choices" in have and have & {"query", "question"}:
        _need(gold, have, "choices", where)
        if "query" in have:
            return Form("{{query}}", "choices", str(gold), "multiple_choice")
        return Form(_before(have) + "Question: {{question}}\nAnswer:", "choices", str(gold), "multiple_choice")
    if {"context", "continuation"} <= have:
        return Form("{{context}}", None, "continuation", "generate_until")
    answer = next((name for name in ("answers", "answer", "target") if name in have), None)
    if "question" in have and answer:
        return Form(_before(have) + "Question: {{question}}\nAnswer:", None, answer, "generate_until")
    if "context" in have and answer:
        return Form("{{context}}", None, answer, "generate_until")
    raise DataError(
        f"the fields {', '.join(sorted(map(str, have)))} do not say what the task is",
        where=where,
        remedy="write a task YAML (data, doc_to_text, doc_to_choice, doc_to_target), or name the fields query, choices, gold",
    )


def _before(have: set[str]) -> str:
    return _PASSAGES if "passages" in have else _CONTEXT if "context" in have else ""


def _need(gold: str | None, have: set[str], choices: str, where: str) -> None:
    if gold is None:
        raise DataError(
            f"{choices!r} without a gold answer", where=where, remedy="add a field `gold` with the index of the right choice"
        )
