"""Values that depend on other resources: expression nodes, and what they become once those are known.

A property tree is plain JSON with nodes where a value depends on another resource. `evaluate`
turns it into plain JSON, with `model.Unknown` where the lookup does not know yet.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

from fairlead.changes.model import Reference, Unknown
from fairlead.kernel.errors import FairleadError

Lookup = Callable[[Reference], Any]
MASK = "****"


class Unresolvable(FairleadError):
    """A function of the template cannot be computed from the values that it was given."""

    code, status, retryable = "template.unresolvable", 422, False


class Written(float):
    """A number whose text matters: `5.10` is an engine version before it is a float."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> Self:
        self = super().__new__(cls, text)
        self.text = text
        return self


class Secret(str):
    """A NoEcho value. It compares, joins and encodes as its text, but shows as `****` in repr and f-strings.

    `str(secret)` is the plain text, because AWS must get it: `mask` a tree before it is shown or kept.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(MASK)

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)


@dataclass(frozen=True, slots=True)
class Join:
    """`Fn::Join`, and `Fn::Sub` with an empty separator; `parts` may be one list-valued node."""

    separator: str
    parts: Any


@dataclass(frozen=True, slots=True)
class Select:
    """`Fn::Select` of a list that is not known yet."""

    index: int
    items: Any


@dataclass(frozen=True, slots=True)
class Split:
    """`Fn::Split` of a text that is not known yet."""

    separator: str
    text: Any


@dataclass(frozen=True, slots=True)
class Base64:
    """`Fn::Base64` of a text that is not known yet."""

    text: Any


@dataclass(frozen=True, slots=True)
class Cidr:
    """`Fn::Cidr` of a block that is not known yet."""

    block: Any
    count: int
    bits: int


@dataclass(frozen=True, slots=True)
class Import:
    """`Fn::ImportValue` where nobody could say which exports exist (offline)."""

    name: str


@dataclass(frozen=True, slots=True)
class Cast:
    """A value that the schema wants as `kind`, once it is known."""

    kind: str
    value: Any


@dataclass(frozen=True, slots=True)
class Broken:
    """Stands where a fault was already reported, so that the rest can still be looked at."""


BROKEN = Broken()
_INNER: dict[type, str] = {
    Join: "parts",
    Select: "items",
    Split: "text",
    Base64: "text",
    Cidr: "block",
    Cast: "value",
}
NODES = (Reference, Join, Select, Split, Base64, Cidr, Import, Cast, Broken)
_NODE_TYPES = frozenset(NODES)


def is_node(value: Any) -> bool:
    """Whether `value` is an expression, not plain JSON."""
    return type(value) in _NODE_TYPES


def evaluate(tree: Any, lookup: Lookup) -> Any:
    """`tree` as plain JSON, with `Unknown` where `lookup` answers Unknown.

    Parts without expressions are shared with `tree`, not copied; a tree without any comes back
    itself. Raises Unresolvable if what `lookup` answers does not fit its place.
    """
    kind = type(tree)
    if kind is dict:
        return _each(tree, tree.items(), lookup)
    if kind is list or kind is tuple:
        return _each(tree, enumerate(tree), lookup)
    if kind is Reference:
        return lookup(tree)
    if kind in _NODE_TYPES:
        return _COMPUTE[kind](tree, lookup)
    return tree


def _each(tree: Any, members: Any, lookup: Lookup) -> Any:
    changed: Any = None
    for key, value in members:
        if type(value) is str:
            continue
        new = evaluate(value, lookup)
        if new is not value:
            if changed is None:
                changed = dict(tree) if type(tree) is dict else list(tree)
            changed[key] = new
    return tree if changed is None else changed


def _join(node: Join, lookup: Lookup) -> Any:
    parts = evaluate(node.parts, lookup)
    if isinstance(parts, Unknown):
        return Unknown(f"Join({node.separator!r}, {parts.expression})", parts.fresh)
    return joined(node.separator, parts)


def joined(separator: str, parts: Sequence[Any]) -> Any:
    """The texts of `parts`, joined: Unknown if one is, Secret if one is. Raises Unresolvable."""
    unknown = [part for part in parts if isinstance(part, Unknown)]
    if unknown:
        shown = (part.expression if isinstance(part, Unknown) else f"{text_of(part)}" for part in parts)
        return Unknown(format(separator).join(shown), any(part.fresh for part in unknown))
    return _alike(separator.join(map(text_of, parts)), *parts, separator)


def _alike(text: str, *sources: Any) -> str:
    return Secret(text) if any(isinstance(source, Secret) for source in sources) else text


def text_of(value: Any) -> str:
    """A scalar as CloudFormation writes it. Raises Unresolvable for lists, maps and nothing."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Written):
        return value.text
    if isinstance(value, int | float):
        return str(value)
    raise Unresolvable(f"A text is needed here, not {kind_of(value)}.")


def kind_of(value: Any) -> str:
    """What `value` is, in the words of a message."""
    names = {dict: "a map", list: "a list", str: "a text", bool: "true or false", type(None): "nothing"}
    for kind, name in names.items():
        if isinstance(value, kind):
            return name
    return "a number" if isinstance(value, int | float) else "a value that is not known yet"


def _select(node: Select, lookup: Lookup) -> Any:
    items = evaluate(node.items, lookup)
    if isinstance(items, Unknown):
        return Unknown(f"Select({node.index}, {items.expression})", items.fresh)
    return selected(node.index, items)


def selected(index: int, items: Any) -> Any:
    """Item number `index`, from 0. Raises Unresolvable."""
    if not isinstance(items, list | tuple):
        raise Unresolvable(f"Fn::Select takes a list, not {kind_of(items)}.")
    if not 0 <= index < len(items):
        raise Unresolvable(f"Fn::Select asks for item {index} of a list of {len(items)}.")
    return items[index]


def _split(node: Split, lookup: Lookup) -> Any:
    text = evaluate(node.text, lookup)
    if isinstance(text, Unknown):
        return Unknown(f"Split({node.separator!r}, {text.expression})", text.fresh)
    return split_text(node.separator, text)


def split_text(separator: str, text: Any) -> list[str]:
    """The parts of `text`. Raises Unresolvable."""
    if not separator:
        raise Unresolvable("Fn::Split needs a separator that is not empty.")
    return [_alike(part, text) for part in text_of(text).split(separator)]


def _base64(node: Base64, lookup: Lookup) -> Any:
    text = evaluate(node.text, lookup)
    if isinstance(text, Unknown):
        return Unknown(f"Base64({text.expression})", text.fresh)
    return base64_of(text)


def base64_of(text: Any) -> str:
    """The UTF-8 bytes of `text` in base64. Raises Unresolvable."""
    plain = text_of(text)
    return _alike(base64.b64encode(plain.encode()).decode("ascii"), text)


def _cidr(node: Cidr, lookup: Lookup) -> Any:
    block = evaluate(node.block, lookup)
    if isinstance(block, Unknown):
        return Unknown(f"Cidr({block.expression}, {node.count}, {node.bits})", block.fresh)
    return cidr_blocks(block, node.count, node.bits)


def cidr_blocks(block: Any, count: int, bits: int) -> list[str]:
    """The first `count` blocks inside `block` that leave `bits` bits to hosts. Raises Unresolvable."""
    try:
        network = ipaddress.ip_network(text_of(block))
    except ValueError:
        raise Unresolvable("Fn::Cidr takes a CIDR block such as 10.0.0.0/16, without host bits.") from None
    prefix = network.max_prefixlen - bits
    available = 1 << max(prefix - network.prefixlen, 0)
    if not 1 <= count <= 256 or not network.prefixlen <= prefix <= network.max_prefixlen or count > available:
        raise Unresolvable(
            f"Fn::Cidr cannot cut {count} blocks with {bits} host bits out of a /{network.prefixlen}."
        )
    first, step = int(network.network_address), 1 << bits
    address = type(network.network_address)
    return [_alike(f"{address(first + number * step)}/{prefix}", block) for number in range(count)]


def _import(node: Import, _: Lookup) -> Unknown:
    return Unknown(f"${{ImportValue:{node.name}}}", fresh=False)


def _cast(node: Cast, lookup: Lookup) -> Any:
    return cast(node.kind, evaluate(node.value, lookup))


_BOOLEANS = {"true": True, "false": False}
_DECIMAL = re.compile(r"[-+]?[0-9]{1,40}(?:\.[0-9]{1,40})?(?:[eE][-+]?[0-9]{1,3})?\Z")


def cast(kind: str, value: Any) -> Any:
    """`value` in the JSON type `kind` if CloudFormation would take it for one; else `value` itself.

    A Secret stays a text: as a number it would lose its mark.
    """
    if kind == "string" and isinstance(value, bool | int | float):
        return text_of(value)
    if kind in ("integer", "number"):
        return _cast_number(kind, value)
    if kind == "boolean" and isinstance(value, str) and not isinstance(value, Secret):
        return _BOOLEANS.get(value.lower(), value)
    return value


def _cast_number(kind: str, value: Any) -> Any:
    if isinstance(value, bool | Secret):
        return value
    if isinstance(value, str):
        if not _DECIMAL.match(value):
            return value
        plain = value.lstrip("+-").isdigit()
        number: int | float = int(value) if plain else float(value)
    elif isinstance(value, int | float):
        number = float(value) if isinstance(value, Written) else value
    else:
        return value
    if isinstance(number, float) and number.is_integer():
        return int(number)  # one form for 5, 5.0 and "5", so that a difference is a difference
    return number if kind == "number" or isinstance(number, int) else value


_COMPUTE: dict[type, Callable[[Any, Lookup], Any]] = {
    Join: _join,
    Select: _select,
    Split: _split,
    Base64: _base64,
    Cidr: _cidr,
    Import: _import,
    Cast: _cast,
    Broken: lambda _node, _lookup: Unknown("?"),
}


def nodes_in(tree: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Every outermost expression of `tree` with its path."""
    if is_node(tree):
        yield path, tree
    elif isinstance(tree, dict):
        for key, value in tree.items():
            if type(value) is not str:
                yield from nodes_in(value, (*path, key))
    elif isinstance(tree, list | tuple):
        for index, value in enumerate(tree):
            if type(value) is not str:
                yield from nodes_in(value, (*path, index))


def references(tree: Any) -> frozenset[Reference]:
    """Every Ref and GetAtt of another resource that `tree` depends on."""
    found: set[Reference] = set()
    _collect(tree, found)
    return frozenset(found)


def _collect(tree: Any, found: set[Reference]) -> None:
    kind = type(tree)
    if kind is Reference:
        found.add(tree)
    elif kind is dict:
        for value in tree.values():
            _collect(value, found)
    elif kind is list or kind is tuple:
        for value in tree:
            _collect(value, found)
    elif kind in _INNER:
        _collect(getattr(tree, _INNER[kind]), found)


def mask(tree: Any) -> Any:
    """`tree` with every Secret as `****`: what may be displayed, logged or stored."""
    if isinstance(tree, Secret):
        return MASK
    if isinstance(tree, dict):
        return {key: mask(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [mask(value) for value in tree]
    return tree


def sub_parts(text: str) -> tuple[tuple[bool, str], ...]:
    """A `Fn::Sub` text as (is a name, text or name) in order; `${!X}` is the literal `${X}`."""
    parts: list[tuple[bool, str]] = []
    end = 0
    for match in re.finditer(r"\$\{([^{}]*+)\}", text):
        parts.append((False, text[end : match.start()]))
        name = match[1]
        parts.append((False, f"${{{name[1:]}}}") if name.startswith("!") else (True, name.strip()))
        end = match.end()
    parts.append((False, text[end:]))
    return tuple(part for part in parts if part[0] or part[1])
