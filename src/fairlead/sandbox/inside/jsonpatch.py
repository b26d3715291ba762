"""RFC 6902 on JSON documents: strict, and the given document is never changed."""

import copy
from typing import Any


class PatchInvalid(ValueError):
    """The patch is not RFC 6902, or does not fit the document."""


def apply_patch(document: Any, operations: Any) -> Any:
    """`document` with `operations` applied in order. Raises PatchInvalid, naming the operation."""
    if not isinstance(operations, list):
        raise PatchInvalid("The patch document must be a JSON array of operations")
    result = copy.deepcopy(document)
    for number, operation in enumerate(operations):
        try:
            result = _apply(result, operation)
        except PatchInvalid as error:
            raise PatchInvalid(f"Operation {number} of the patch document: {error}") from error
    return result


def _apply(document: Any, operation: Any) -> Any:
    if not isinstance(operation, dict) or not isinstance(operation.get("path"), str):
        raise PatchInvalid("an operation is an object with op and path")
    kind, path = operation.get("op"), _tokens(operation["path"])
    if kind in ("add", "replace", "test"):
        if "value" not in operation:
            raise PatchInvalid(f"{kind} needs a value")
        value = copy.deepcopy(operation["value"])
        if kind == "add":
            return _add(document, path, value)
        if kind == "replace":
            _get(document, path)
            return _replace(document, path, value)
        if not _same(_get(document, path), value):
            raise PatchInvalid(f"test failed at {operation['path']!r}")
        return document
    if kind == "remove":
        return _remove(document, path)
    if kind in ("move", "copy"):
        return _transfer(document, kind, operation.get("from"), path)
    raise PatchInvalid(f"unknown op {kind!r}")


def _transfer(document: Any, kind: str, source: Any, path: list[str]) -> Any:
    if not isinstance(source, str):
        raise PatchInvalid(f"{kind} needs from")
    origin = _tokens(source)
    value = copy.deepcopy(_get(document, origin))
    if kind == "move":
        if path[: len(origin)] == origin and len(path) > len(origin):
            raise PatchInvalid("a value cannot be moved into itself")
        document = _remove(document, origin)
    return _add(document, path, value)


def _tokens(pointer: str) -> list[str]:
    if pointer == "":
        return []
    if not pointer.startswith("/"):
        raise PatchInvalid(f"{pointer!r} is not a JSON pointer")
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer[1:].split("/")]


def _index(token: str, length: int) -> int:
    if not token.isascii() or not token.isdigit() or (len(token) > 1 and token[0] == "0"):
        raise PatchInvalid(f"{token!r} is not an array index")
    if int(token) >= length:
        raise PatchInvalid(f"array index {token} is out of range")
    return int(token)


def _get(document: Any, path: list[str]) -> Any:
    for token in path:
        if isinstance(document, dict) and token in document:
            document = document[token]
        elif isinstance(document, list):
            document = document[_index(token, len(document))]
        else:
            raise PatchInvalid(f"there is nothing at /{'/'.join(path)}")
    return document


def _add(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    parent, last = _get(document, path[:-1]), path[-1]
    if isinstance(parent, dict):
        parent[last] = value
    elif isinstance(parent, list):
        parent.insert(len(parent) if last == "-" else _index(last, len(parent) + 1), value)
    else:
        raise PatchInvalid(f"/{'/'.join(path[:-1])} is neither an object nor an array")
    return document


def _replace(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    parent, last = _get(document, path[:-1]), path[-1]
    parent[_index(last, len(parent)) if isinstance(parent, list) else last] = value
    return document


def _remove(document: Any, path: list[str]) -> Any:
    if not path:
        raise PatchInvalid("the whole document cannot be removed")
    _get(document, path)
    parent, last = _get(document, path[:-1]), path[-1]
    del parent[_index(last, len(parent)) if isinstance(parent, list) else last]
    return document


def _same(left: Any, right: Any) -> bool:
    """JSON equality: true is not 1."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same, left, right))
    return bool(left == right)
