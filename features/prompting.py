"""Jinja prompts in a sandbox: strict about missing fields, unable to reach anything but the row they render.

The environment means the same as lm-evaluation-harness's (a trailing newline is kept, the filter `regex_replace` is there),
but it is immutable and sandboxed, and it refuses to multiply text into gigabytes: a task file comes from outside.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import jinja2
from jinja2 import meta
from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError

from features.errors import DataError, ManifestError
from features.manifest import closest

LONGEST = 1_000_000  # characters of one rendered prompt


class _Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any) -> Any:
        sizes = [
            len(side) if isinstance(side, str | list | tuple) else abs(side) if isinstance(side, int) else 1
            for side in (left, right)
        ]
        if operator == "**" or sizes[0] * sizes[1] > LONGEST:
            raise SecurityError(f"{operator} of such size")
        return super().call_binop(context, operator, left, right)


def _regex_replace(text: str, pattern: str, replacement: str, count: int = 0) -> str:
    return re.sub(pattern, replacement, text, count=count)


@cache
def _environment() -> _Sandbox:
    environment = _Sandbox(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
    environment.filters["regex_replace"] = _regex_replace
    return environment


@cache
def _compiled(source: str) -> jinja2.Template:
    return _environment().from_string(source)


def check(source: str, fields: Iterable[str], *, where: str) -> None:
    """Raise ManifestError unless `source` is a template that refers only to `fields` (of the data) and to what Jinja defines."""
    try:
        names = meta.find_undeclared_variables(_environment().parse(source)) - set(_environment().globals)
        _compiled(source)
    except jinja2.TemplateError as error:
        raise ManifestError(f"not a Jinja template: {error}", where=where, remedy=f"mend the template {source[:80]!r}") from None
    known = list(fields)
    for name in sorted(names - set(known)):
        raise ManifestError(
            f"the template refers to the field {name!r}, which the data does not have", where=where, remedy=closest(name, known)
        )


def render(source: str, row: Mapping[str, Any], *, where: str, row_at: str = "") -> str:
    """Render a template with the fields of one row. Raises DataError naming the row for a missing field or anything else that
    fails.
    """
    if "{" not in source:
        return source
    try:
        text = _compiled(source).render(**row)
    except jinja2.UndefinedError as error:
        raise DataError(
            f"{error.message}, in {where}", where=row_at, remedy=f"give the row that field; it has {', '.join(row)}"
        ) from None
    except SecurityError as error:
        raise ManifestError(
            f"the template is refused: {error}", where=where, remedy="use fields and plain filters only"
        ) from None
    except Exception as error:  # a filter or a method may raise anything on a strange row
        raise DataError(
            f"cannot render {where}: {type(error).__name__}: {error}", where=row_at, remedy="mend the template or the row"
        ) from None
    if len(text) > LONGEST:
        raise DataError(f"{where} renders to {len(text)} characters", where=row_at, remedy="cut it, e.g. {{ text[:2000] }}")
    return text
