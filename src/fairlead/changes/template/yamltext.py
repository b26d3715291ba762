"""YAML text to a tree with line numbers, CloudFormation's short tags included.

Nothing that the text names is ever constructed, and no text makes the tree grow without bound:
depth, and what aliases may add, are limited.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from fairlead.changes.model import Fault
from fairlead.changes.template.document import (
    MAX_DEPTH,
    MAX_NODES,
    Array,
    Object,
    Path,
    Unreadable,
    dotted,
    duplicate,
    number_of,
    out_of_range,
    too_many,
)

MAX_ALIASED_NODES: Final = 100_000  # nodes that aliases may add, over the whole document
_STANDARD = "tag:yaml.org,2002:"
_FUNCTIONS: Final = (
    *("And", "Base64", "Cidr", "Equals", "FindInMap", "GetAZs", "GetAtt", "If", "ImportValue", "Join", "Not"),
    *("Or", "Select", "Split", "Sub"),
    # Known, so that the fault can name them; the grammar refuses them.
    *("Contains", "EachMemberEquals", "EachMemberIn", "ForEach", "GetStackOutput", "Length", "RefAll"),
    *("ToJsonString", "Transform", "ValueOf", "ValueOfAll"),
)
SHORT_TAGS: Final = {
    "!Ref": "Ref",
    "!Condition": "Condition",
    **{f"!{name}": f"Fn::{name}" for name in _FUNCTIONS},
}
_WORDS: dict[str, Any] = dict.fromkeys(("", "~", "null", "Null", "NULL"))
_WORDS |= {form: True for word in ("true", "yes", "on") for form in (word, word.title(), word.upper())}
_WORDS |= {form: False for word in ("false", "no", "off") for form in (word, word.title(), word.upper())}
# Dates, octals, sexagesimals and 1_000 stay text, as CloudFormation keeps them.
_NUMBER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)(?:\.[0-9]*(?:[eE][-+]?[0-9]+)?)?\Z")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF|nan|NaN|NAN)\Z")
_NUMERIC_START = frozenset("+-.0123456789")


class _Frame:
    """A container that is still open."""

    __slots__ = ("anchor", "height", "key", "key_line", "line", "size", "tag", "tree")

    def __init__(self, tree: Object | Array, tag: str | None, anchor: str | None) -> None:
        self.tree = tree
        self.tag = tag
        self.anchor = anchor
        self.line = tree.line
        self.key: str | None = None
        self.key_line = 0
        self.size = 1  # nodes, with what aliases stand for
        self.height = 1


class YamlReader:
    """One pass over the events of one YAML text; holds what is open and what has an anchor.

    Built on events because libyaml's composer recurses in C: deep nesting would end the process.
    """

    def __init__(self, text: str, faults: list[Fault], max_nodes: int = MAX_NODES) -> None:
        self.text = text
        self.faults = faults
        self.open: list[_Frame] = []
        self.anchors: dict[str, tuple[Any, int, int]] = {}  # value, size, height
        self.aliased = 0
        self.nodes = 0
        self.max_nodes = max_nodes
        self.root: Any = None
        self.documents = 0

    def document(self) -> Any:
        """The one document of the text. Raises Unreadable."""
        step: dict[type[Event], Callable[[Any], None]] = {
            ScalarEvent: self._scalar,
            MappingStartEvent: self._start,
            SequenceStartEvent: self._start,
            MappingEndEvent: self._end,
            SequenceEndEvent: self._end,
            AliasEvent: self._alias,
            DocumentStartEvent: self._begin,
        }
        try:
            for event in yaml.parse(self.text, Loader=_EVENTS):
                handle = step.get(type(event))
                if handle is not None:
                    handle(event)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            problem = " ".join(filter(None, (error.context, error.problem))) or "the text cannot be read"
            line = mark.line + 1 if mark else None
            raise Unreadable("template.syntax", line, f"Not valid YAML: {problem}.") from None
        except yaml.YAMLError as error:
            at = getattr(error, "position", None)
            line = self.text.encode().count(b"\n", 0, at) + 1 if isinstance(at, int) else None
            message = f"Not valid YAML: {getattr(error, 'reason', 'the text cannot be read')}."
            raise Unreadable("template.syntax", line, message) from None
        if not self.documents:
            raise Unreadable("template.empty", None, "The file holds no document.")
        return self.root

    def _begin(self, event: Event) -> None:
        self.documents += 1
        if self.documents > 1:
            line = _line(event)
            raise Unreadable("template.syntax", line, "A second YAML document begins here; one is allowed.")

    def _path(self) -> Path:
        """Where the reader is: the keys and positions of what is open."""
        path: list[str | int] = []
        for frame in self.open:
            if isinstance(frame.tree, Array):
                path.append(len(frame.tree))
            elif frame.key is not None:
                path.append(frame.key)
        return tuple(path)

    def _fault(self, code: str, line: int, message: str) -> None:
        self.faults.append(Fault(path=dotted(self._path()), line=line, code=code, message=message))

    def _attach(self, value: Any, line: int, size: int, height: int) -> None:
        self.nodes += 1
        if self.nodes > self.max_nodes:
            raise too_many(line, self.max_nodes)
        if not self.open:
            self.root = value
            return
        frame = self.open[-1]
        frame.size += size
        frame.height = max(frame.height, height + 1)
        if len(self.open) + height > MAX_DEPTH:
            raise Unreadable("template.too_deep", line, f"Nested deeper than {MAX_DEPTH} levels.")
        tree = frame.tree
        if isinstance(tree, Array):
            tree.put(value, line)
        elif frame.key is None:
            self._key(frame, value if isinstance(value, str) else None, line)
        else:
            key = frame.key
            if key in tree:
                self.faults.append(duplicate(self._path(), frame.key_line, tree.lines[key]))
            else:
                tree.put(key, value, frame.key_line)
            frame.key = None

    def _key(self, frame: _Frame, key: str | None, line: int) -> None:
        if key is None:
            self._fault(
                "template.key", line, "A key must be text: not empty, a list, a mapping or a function."
            )
            key = f"<key on line {line}>"
        frame.key, frame.key_line = key, line

    def _scalar(self, event: ScalarEvent) -> None:
        line = _line(event)
        plain = event.style in (None, "")
        awaits_key = bool(self.open) and self.open[-1].key is None and type(self.open[-1].tree) is Object
        if awaits_key and event.tag is None:
            if event.anchor:
                self.anchors[event.anchor] = (event.value, 1, 0)
            if plain and event.value == "<<":
                message = "Merge keys (<<) are not supported; write the properties out."
                self._fault("template.unsupported", line, message)
            odd = plain and event.value in _WORDS and _WORDS[event.value] is None
            self._key(self.open[-1], None if odd else event.value, line)
            return
        value = self._plain(event.value, line) if plain and event.tag is None else event.value
        if event.tag is not None and event.tag != "!":
            value = self._tagged(event.tag, value, line)
        if event.anchor:
            self.anchors[event.anchor] = (value, 1, 0)
        self._attach(value, line, 1, 0)

    def _plain(self, text: str, line: int) -> Any:
        if text in _WORDS:
            return _WORDS[text]
        if text[0] in _NUMERIC_START:
            if _NUMBER.match(text) and text[0] != "+":
                number = number_of(text)
                if number is None:
                    self.faults.append(out_of_range(text, self._path(), line))
                return 0 if number is None else number
            if _NOT_FINITE.match(text):
                self._fault("template.number", line, f"{text} is not a number that AWS takes.")
        return text

    def _tagged(self, tag: str, value: Any, line: int) -> Any:
        name = SHORT_TAGS.get(tag)
        if name is None:
            return self._standard(tag, value, line)
        if name == "Fn::GetAtt" and isinstance(value, str) and "." in value:
            resource, attribute = value.split(".", 1)
            value = Array(line, [(resource, line), (attribute, line)])
        tree = Object(line)
        tree.put(name, value, line)
        return tree

    def _standard(self, tag: str, value: Any, line: int) -> Any:
        kind = tag.removeprefix(_STANDARD)
        if tag == f"{_STANDARD}{kind}":
            if kind == "str" and isinstance(value, str):
                return value
            if kind in ("int", "float", "bool", "null") and isinstance(value, str):
                return self._plain(value, line)
            if (kind == "map" and isinstance(value, Object)) or (kind == "seq" and isinstance(value, Array)):
                return value
        shown = f"!!{kind}" if tag.startswith(_STANDARD) else tag
        self._fault("template.unsupported", line, f"The YAML tag {shown[:60]} is not supported.")
        return value

    def _start(self, event: MappingStartEvent | SequenceStartEvent) -> None:
        line = _line(event)
        if len(self.open) >= MAX_DEPTH:
            raise Unreadable("template.too_deep", line, f"Nested deeper than {MAX_DEPTH} levels.")
        tree = Object(line) if type(event) is MappingStartEvent else Array(line)
        tag = event.tag if event.tag != "!" else None
        self.open.append(_Frame(tree, tag, event.anchor))

    def _end(self, _: Event) -> None:
        frame = self.open.pop()
        value: Any = frame.tree
        if frame.tag is not None:
            value = self._tagged(frame.tag, value, frame.line)
        if frame.anchor:
            self.anchors[frame.anchor] = (value, frame.size, frame.height)
        self._attach(value, frame.line, frame.size, frame.height)

    def _alias(self, event: AliasEvent) -> None:
        line = _line(event)
        known = self.anchors.get(event.anchor or "")
        if known is None:
            message = f"The alias *{(event.anchor or '')[:60]} names no anchor that is complete before it."
            raise Unreadable("template.syntax", line, message)
        value, size, height = known
        self.aliased += size
        if self.aliased > MAX_ALIASED_NODES:
            message = f"Aliases repeat more than {MAX_ALIASED_NODES:,} nodes; write the template out."
            raise Unreadable("template.too_large", line, message)
        self._attach(value, line, size, height)


def _line(event: Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 0


# libyaml where PyYAML was built with it: ten times as fast, the same events.
_EVENTS: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
