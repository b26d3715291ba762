"""HTML and SVG whose text is always escaped: only `element` makes markup, and it escapes every string."""

from collections.abc import Mapping
from html import escape

_VOID = frozenset({"meta", "br", "hr", "img", "link"})


class Markup(str):
    """Text that is markup already. Made by `element` and `joined` only."""

    __slots__ = ()


def printable(text: str) -> str:
    """`text` with control characters and lone surrogates replaced: they are no text in HTML or CSV."""
    return "".join(
        "\ufffd" if (c < " " and c not in "\n\t") or "\x7f" <= c < "\xa0" or "\ud800" <= c <= "\udfff" else c
        for c in text
    )


def joined(*parts: str | None) -> Markup:
    """The parts one after the other; plain strings are escaped, None is nothing."""
    return Markup(
        "".join(
            part if isinstance(part, Markup) else escape(printable(part), quote=True)
            for part in parts
            if part is not None
        )
    )


def element(
    name: str, attributes: Mapping[str, str | int | float | None] | None = None, /, *children: str | None
) -> Markup:
    """`<name attributes>children</name>`; attributes that are None are left out. Names come from our code."""
    written = "".join(
        f' {key}="{escape(printable(str(value)), quote=True)}"'
        for key, value in (attributes or {}).items()
        if value is not None
    )
    if name in _VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{joined(*children)}</{name}>")


def link(address: str) -> Markup:
    """`address` as a link where it is a web address, else as text."""
    if not address.startswith(("https://", "http://")):
        return joined(address)
    return element("a", {"href": address, "rel": "noopener noreferrer", "target": "_blank"}, address)


def style_element(css: str) -> tuple[Markup, str]:
    """A style element of our own constant `css`, and the CSP source that allows just it."""
    from base64 import b64encode
    from hashlib import sha256

    digest = b64encode(sha256(css.encode()).digest()).decode()
    return Markup(f"<style>{css}</style>"), f"'sha256-{digest}'"
