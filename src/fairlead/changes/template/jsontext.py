"""JSON text to a tree with line numbers. The standard parser is faster, but knows no lines."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from typing import Any

from fairlead.changes.model import Fault
from fairlead.changes.template.document import (
    MAX_DEPTH,
    MAX_NODES,
    Array,
    Object,
    Unreadable,
    duplicate,
    number_of,
    out_of_range,
    too_many,
)

_TOKEN = re.compile(
    r"[ \t\r\n]*+(?:"
    r'("(?:[^"\\\x00-\x1f]++|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*+")'
    r"|(-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?)(?![0-9A-Za-z.])"
    r"|(true|false|null)\b"
    r"|([\[\]{},:]))"
)
_LITERALS = {"true": True, "false": False, "null": None}


class JsonReader:
    """One pass over one JSON text; holds the position."""

    def __init__(self, text: str, faults: list[Fault], max_nodes: int = MAX_NODES) -> None:
        self.text = text
        self.faults = faults
        self.at = 0
        self.nodes = 0
        self.max_nodes = max_nodes
        self.path: list[str | int] = []  # keys and positions of what is open
        self.newlines = [match.start() for match in re.finditer("\n", text)]

    def document(self) -> Any:
        """The one value of the text. Raises Unreadable."""
        value = self._value(*self._token(), depth=0)
        if self.text[self.at :].strip(" \t\r\n"):
            self._stop("there is text after the end of the document")
        return value

    def _line(self, at: int) -> int:
        return bisect_right(self.newlines, at) + 1

    def _stop(self, problem: str) -> Any:
        rest = re.compile(r"[ \t\r\n]*").match(self.text, self.at)
        at = rest.end() if rest else self.at
        if re.compile(r"-?(NaN|Infinity)\b").match(self.text, at):
            raise Unreadable("template.number", self._line(at), "NaN and Infinity are not JSON numbers.")
        raise Unreadable("template.syntax", self._line(at), f"Not valid JSON: {problem}.")

    def _token(self) -> tuple[int, str, int]:
        """Kind (1 string, 2 number, 3 literal, 4 mark), text and position of the next token."""
        match = _TOKEN.match(self.text, self.at)
        if match is None or match.lastindex is None:
            return self._stop("a value, a bracket, a comma or a colon is expected here")  # type: ignore[no-any-return]
        self.at = match.end()
        return match.lastindex, match[match.lastindex], match.start(match.lastindex)

    def _value(self, kind: int, text: str, at: int, *, depth: int) -> Any:
        self.nodes += 1
        if self.nodes > self.max_nodes:
            raise too_many(self._line(at), self.max_nodes)
        if kind == 1:
            return self._string(text, at)
        if kind == 2:
            return self._number(text, at)
        if kind == 3:
            return _LITERALS[text]
        if depth >= MAX_DEPTH:
            raise Unreadable("template.too_deep", self._line(at), f"Nested deeper than {MAX_DEPTH} levels.")
        if text == "{":
            return self._object(at, depth + 1)
        if text == "[":
            return self._array(at, depth + 1)
        self.at = at
        return self._stop(f"a value is expected before '{text}'")

    def _number(self, text: str, at: int) -> Any:
        number = number_of(text)
        if number is None:
            self.faults.append(out_of_range(text, tuple(self.path), self._line(at)))
            return 0
        return number

    def _string(self, token: str, at: int) -> str:
        if "\\" not in token:
            return token[1:-1]
        value: str = json.loads(token)
        try:
            value.encode()
        except UnicodeEncodeError:
            line = self._line(at)
            raise Unreadable(
                "template.encoding", line, "Half of a surrogate pair is not a character."
            ) from None
        return value

    def _array(self, start: int, depth: int) -> Array:
        array = Array(self._line(start))
        token = self._token()
        if token[1] == "]" and token[0] == 4:
            return array
        while True:
            self.path.append(len(array))
            array.put(self._value(*token, depth=depth), self._line(token[2]))
            self.path.pop()
            kind, mark, at = self._token()
            if kind == 4 and mark == "]":
                return array
            if kind != 4 or mark != ",":
                self.at = at
                self._stop("a comma or ']' is expected")
            token = self._token()

    def _object(self, start: int, depth: int) -> Object:
        tree = Object(self._line(start))
        token = self._token()
        if token[1] == "}" and token[0] == 4:
            return tree
        while True:
            self._member(tree, token, depth)
            kind, mark, at = self._token()
            if kind == 4 and mark == "}":
                return tree
            if kind != 4 or mark != ",":
                self.at = at
                self._stop("a comma or '}' is expected")
            token = self._token()

    def _member(self, tree: Object, token: tuple[int, str, int], depth: int) -> None:
        if token[0] != 1:
            self.at = token[2]
            self._stop("a key in double quotes is expected")
        key, line = self._string(token[1], token[2]), self._line(token[2])
        kind, mark, at = self._token()
        if kind != 4 or mark != ":":
            self.at = at
            self._stop("a colon is expected after the key")
        self.path.append(key)
        value = self._value(*self._token(), depth=depth)
        if key in tree:
            self.faults.append(duplicate(tuple(self.path), line, tree.lines[key]))
        else:
            tree.put(key, value, line)
        self.path.pop()
