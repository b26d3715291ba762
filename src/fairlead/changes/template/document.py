"""The tree that a template text becomes: plain JSON values, and a line number for every key and item."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable
from typing import Any, Final

from fairlead.changes.intrinsics import Written
from fairlead.changes.model import Fault

MAX_DEPTH: Final = 100
MAX_NODES: Final = 1_000_000  # values in one document: a byte of text can cost 100 bytes of memory
Path = tuple[str | int, ...]


class Object(dict[str, Any]):
    """A mapping: `line` where it starts, `lines` the line of each key."""

    __slots__ = ("line", "lines")

    def __init__(self, line: int) -> None:
        self.line = line
        self.lines: dict[str, int] = {}

    def put(self, key: str, value: Any, line: int) -> None:
        """Set `key`, which stands on `line`."""
        self[key] = value
        self.lines[key] = line


class Array(list[Any]):
    """A sequence: `line` where it starts, `lines` the line of each item."""

    __slots__ = ("line", "lines")

    def __init__(self, line: int, items: Iterable[tuple[Any, int]] = ()) -> None:
        self.line = line
        self.lines = array("L")  # unlike a list, nothing that the garbage collector has to visit
        for value, at in items:
            self.put(value, at)

    def put(self, value: Any, line: int) -> None:
        """Append `value`, which stands on `line`."""
        self.append(value)
        self.lines.append(line)


class Unreadable(Exception):
    """Reading cannot go on; carries the one fault that stopped it. Never leaves this package."""

    def __init__(self, code: str, line: int | None, message: str) -> None:
        self.fault = Fault(path="", line=line, code=code, message=message)
        super().__init__(message)


def dotted(path: Iterable[str | int]) -> str:
    """`("Resources", "Web", 0)` as `Resources.Web.0`."""
    return ".".join(map(str, path))


def line_at(tree: Any, path: Iterable[str | int]) -> int | None:
    """Line of the deepest part of `path` that `tree` has; None for a tree without lines."""
    line: int | None = getattr(tree, "line", None)
    for part in path:
        if isinstance(tree, Object) and part in tree:
            line = tree.lines[str(part)]
        elif isinstance(tree, Array) and isinstance(part, int) and part < len(tree):
            line = tree.lines[part]
        else:
            return line
        tree = tree[part]
    return line


def too_many(line: int, limit: int) -> Unreadable:
    """What stops a document of more than `limit` values."""
    message = f"The file holds more than {limit:,} values. Split it into several projects."
    return Unreadable("template.too_large", line, message)


def duplicate(path: Path, line: int, first: int) -> Fault:
    """The fault of a key, the last part of `path`, that stands twice in one map."""
    key = str(path[-1])
    message = f"The key '{key[:80]}' stands here for the second time; the first is on line {first}."
    return Fault(path=dotted(path), line=line, code="template.duplicate_key", message=message)


def number_of(text: str) -> Any:
    """An int, a float, or a `Written` where the float would lose what the text says; None out of range."""
    if not any(mark in text for mark in ".eE"):
        if len(text) <= 40:
            return int(text)
    elif math.isfinite(value := float(text)):
        return value if repr(value) == text else Written(text)
    return None


def out_of_range(text: str, path: Path, line: int) -> Fault:
    """The fault of a number that `number_of` cannot hold."""
    message = f"The number {text[:40]} is out of range; quote it if it is meant as text."
    return Fault(path=dotted(path), line=line, code="template.number", message=message)
