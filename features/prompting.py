"""Jinja prompts: strict about missing fields, rendered in the sandbox of `features.sandbox`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import jinja2
from jinja2 import meta
from jinja2.sandbox import SecurityError

from features.errors import DataError, ManifestError
from features.manifest import closest
from features.sandbox import LONGEST, environment


@cache
def _compiled(source: str) -> jinja2.Template:
    return environment().from_string(source)


def check(source: str, fields: Iterable[str], *, where: str) -> None:
    """Raise ManifestError unless `source` is a template that refers only to `fields` (of the data) and to what Jinja defines."""
    try:
        names = meta.find_undeclared_variables(environment().parse(source)) - set(environment().globals)
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
    parts: list[str] = []
    length = 0
    try:
        for part in _compiled(source).generate(**row):
            parts.append(part)
            length += len(part)
            if length > LONGEST:
                break
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
    if length > LONGEST:
        raise DataError(
            f"{where} renders to more than {LONGEST:,} characters", where=row_at, remedy="cut it, e.g. {{ text[:2000] }}"
        )
    return "".join(parts)
