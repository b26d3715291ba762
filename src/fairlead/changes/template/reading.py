"""Bytes to a tree: which of the two text formats it is, and what no text may be."""

from __future__ import annotations

from typing import Any

from fairlead.changes.model import Fault
from fairlead.changes.template.document import Unreadable
from fairlead.changes.template.jsontext import JsonReader
from fairlead.changes.template.yamltext import YamlReader


def read(data: bytes, *, max_bytes: int, faults: list[Fault]) -> Any:
    """Tree of `Object`, `Array` and scalars; None (and at least one fault) where there is no tree.

    Duplicate keys, odd keys, unknown tags and numbers out of range are added to `faults` and
    reading goes on; a syntax error, or a limit, ends it.
    """
    try:
        text = _text(data, max_bytes)
        looks_json = text.lstrip(" \t\r\n")[:1] in ("{", "[")
        return _read_either(text, faults) if looks_json else YamlReader(text, faults).document()
    except Unreadable as stop:
        faults.append(stop.fault)
        return None


def _text(data: bytes, max_bytes: int) -> str:
    if len(data) > max_bytes:
        size = f"{len(data):,} bytes; the limit here is {max_bytes:,}"
        raise Unreadable("template.too_large", None, f"The file has {size}. Split it into several projects.")
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise Unreadable("template.encoding", 1, "The file is UTF-16; save it as UTF-8.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"Byte {error.start} is not UTF-8; save the file as UTF-8."
        raise Unreadable("template.encoding", line, message) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise Unreadable("template.encoding", line, "The file holds NUL bytes: it is binary, not text.")
    if not text.strip():
        raise Unreadable("template.empty", None, "The file is empty.")
    return text


def _read_either(text: str, faults: list[Fault]) -> Any:
    """JSON; else YAML that happens to begin with a bracket; else what is wrong with the JSON."""
    json_faults: list[Fault] = []
    try:
        tree = JsonReader(text, json_faults).document()
    except Unreadable as stop:
        if stop.fault.code != "template.syntax":
            raise
        yaml_faults: list[Fault] = []
        try:
            tree = YamlReader(text, yaml_faults).document()
        except Unreadable as other:
            raise (stop if other.fault.code == "template.syntax" else other) from None
        faults.extend(yaml_faults)
        return tree
    faults.extend(json_faults)
    return tree
