"""The sandbox of Jinja templates: they reach nothing but the row, change nothing and make no gigabytes of a few characters.

The environment means the same as lm-evaluation-harness's (a trailing newline is kept, the filter `regex_replace` is there). No
product, padding, replacement or width of a format makes much of little: a task file comes from outside. That bounds what one
step makes, not how many steps a template takes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sized
from functools import cache, wraps
from string import Formatter
from typing import Any

import jinja2
from jinja2.sandbox import MAX_RANGE, ImmutableSandboxedEnvironment, SecurityError

LONGEST = 1_000_000  # characters of one rendered prompt

# Methods of text and filters that make up to (length of the value) x (length or number of an argument) characters.
_GROWING = frozenset({
    "center", "ljust", "rjust", "zfill", "expandtabs", "to_bytes", "indent", "batch", "slice", "tojson", "round", "replace",
    "join", "regex_replace",
})  # fmt: skip
_STARRED = re.compile(r"%[-#0 +\d.]*\*")  # a printf-style conversion whose width or precision is an argument


class _Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"*", "**", "%"})

    def call_binop(self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "%" and isinstance(left, str):
            _bound_widths(left, len(_STARRED.findall(left)), right)
        numbers = isinstance(left, int | float) and isinstance(right, int | float)
        if operator == "**" or (operator == "*" and not numbers and _size(left) * _size(right) > LONGEST):
            raise SecurityError(f"{operator} of such size")
        return super().call_binop(context, operator, left, right)

    def call(self, context: jinja2.runtime.Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        if isinstance(value := getattr(obj, "__self__", None), str | bytes | int) and obj.__name__ in _GROWING:
            _bound(obj.__name__, value, *args, *kwargs.values())
        return super().call(context, obj, *args, **kwargs)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        made = super().wrap_str_format(value)
        if made is None:
            return None

        @wraps(made)
        def bounded(*args: Any, **kwargs: Any) -> str:
            nested = sum("{" in (spec or "") for _, _, spec, _ in Formatter().parse(value.__self__))
            _bound_widths(value.__self__, nested, (args, kwargs))
            return made(*args, **kwargs)

        return bounded


def _size(value: Any) -> int:
    """Of a number itself; of a text its length; of a list or mapping, that of how it is written; of an iterator, which does not
    tell, that of the longest range.
    """
    if isinstance(value, int):
        return abs(value)
    if isinstance(value, str | bytes):
        return max(len(value), 1)
    if isinstance(value, Iterator):
        return MAX_RANGE
    return max(len(value), len(str(value))) if isinstance(value, Sized) else 1


def _bound(name: str, value: Any, *arguments: Any) -> None:
    """Refuse a method or filter whose result could be as long as its value times its largest argument, where that is too long."""
    most = (1 if isinstance(value, int) else _size(value)) * max(map(_size, arguments), default=0)
    if most > 100 * LONGEST:
        raise SecurityError(f"{name} of such size")


def _bound_widths(text: str, nested: int, arguments: Any) -> None:
    """Refuse a format whose widths and precisions add up to too much; `nested` of them are themselves arguments."""

    def numbers(within: object) -> float:
        return sum(map(float, re.findall(r"\d+", str(within))))

    if numbers(text) + (nested * numbers(arguments) if nested else 0) > LONGEST:
        raise SecurityError("a format of such width")


def _bounded(name: str, made: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that is refused where its result would be too large."""

    @wraps(made)  # with what Jinja notes on the function: whether its context comes first
    def bounded(*args: Any, **kwargs: Any) -> Any:
        value, *arguments = args[1:] if hasattr(made, "jinja_pass_arg") else args
        if name == "format":
            _bound_widths(str(value), len(_STARRED.findall(str(value))), (arguments, kwargs))
        else:
            _bound(name, value, *arguments, *kwargs.values())
        return made(*args, **kwargs)

    return bounded


def _regex_replace(text: str, pattern: str, replacement: str, count: int = 0) -> str:
    return re.sub(pattern, replacement, text, count=count)


@cache
def environment() -> _Sandbox:
    """The environment that prompts are compiled in."""
    made = _Sandbox(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
    made.filters["regex_replace"] = _regex_replace
    for name in {*_GROWING, "format"} & made.filters.keys():
        made.filters[name] = _bounded(name, made.filters[name])
    return made
