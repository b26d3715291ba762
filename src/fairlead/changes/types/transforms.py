"""Property transforms of the registry schemas: the form in which AWS gives a value back.

A transform is a JSONata expression such as `$lowercase(DBName) $OR $uppercase(DBName)`, whose result
is a pattern for the live value. The simple ones (nine of ten) are understood here: names, literals,
`$lowercase`, `$uppercase`, `$string`, `$join`, `$split(...)[n]`. The others answer nothing, and then
values are compared as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_NAME = re.compile(r"[A-Za-z][\w.]*")
_CALL = re.compile(r"\$(lowercase|uppercase|string)\((.*)\)", re.DOTALL)
_JOIN = re.compile(r"\$join\(\[(.*)\]\)", re.DOTALL)
_SPLIT = re.compile(r'\$split\(\s*[A-Za-z][\w.]*\s*,\s*"([^"]+)"\s*\)\[(-?\d+)\]')
_ARGUMENT = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[^,"]+)\s*(?:,|$)')


def gives_back(expression: str, value: str, live: str) -> bool:
    """Whether AWS, given `value`, answers `live` according to the transform `expression`."""
    return any(re.fullmatch(pattern, live) for pattern in _patterns(expression, value))


def _patterns(expression: str, value: str) -> Iterator[str]:
    for alternative in expression.split(" $OR "):
        pattern = _pattern(alternative.strip(), value)
        if pattern is not None:
            yield pattern


def _pattern(expression: str, value: str) -> str | None:
    """A regular expression of the live value; None when `expression` is not understood."""
    if call := _CALL.fullmatch(expression):
        changed = {"lowercase": value.lower(), "uppercase": value.upper(), "string": value}[call[1]]
        return _pattern(call[2].strip(), changed)
    if join := _JOIN.fullmatch(expression):
        parts = [_pattern(argument.strip(), value) for argument in _ARGUMENT.findall(join[1])]
        return None if None in parts else "".join(part for part in parts if part is not None)
    if split := _SPLIT.fullmatch(expression):
        pieces, index = value.split(split[1]), int(split[2])
        return re.escape(pieces[index]) if -len(pieces) <= index < len(pieces) else None
    if len(expression) > 1 and expression[0] == expression[-1] == '"':
        return _valid(expression[1:-1].replace("\\\\", "\\").replace("\\/", "/"))
    return re.escape(value) if _NAME.fullmatch(expression) else None


def _valid(pattern: str) -> str | None:
    try:
        re.compile(pattern)
    except re.error:
        return None
    return pattern
