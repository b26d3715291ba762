"""Values that are never stored in clear: a keyed digest stands for each, so that a change still shows."""

import hashlib
import hmac
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec
from pydantic import SecretStr

from fairlead.changes.model import Json, Properties
from fairlead.changes.state.model import StateResource

SECRET_MARKER = "fairlead:secret"  # noqa: S105 - the name of a key, no secret


@dataclass(frozen=True, slots=True)
class Sealing:
    """Which values are never stored in clear, and the key of the digests that stand for them.

    `paths` names them by resource type as registry schemas do (`/properties/MasterUserPassword`,
    `/properties/Users/*/Password`); losing the key makes every sealed value look changed, no more.
    """

    key: SecretStr
    paths: Callable[[StateResource], Iterable[str]]


def seal(value: Json, key: SecretStr, context: str = "") -> dict[str, str]:
    """The marker that is stored in place of `value`: equal values under one context give equal markers.

    `context` (the logical id and path) keeps two places with one password from showing that they share it.
    """
    if is_sealed(value):
        return dict(value)
    content = context.encode() + b"\0" + msgspec.json.encode(value, order="sorted")
    digest = hmac.new(key.get_secret_value().encode(), content, hashlib.sha256).hexdigest()
    return {SECRET_MARKER: f"hmac-sha256:{digest}"}


def is_sealed(value: Json) -> bool:
    """Whether `value` is a marker that `seal` made."""
    return isinstance(value, dict) and value.keys() == {SECRET_MARKER}


def seal_paths(properties: Properties, paths: Iterable[str], key: SecretStr, context: str = "") -> Properties:
    """A copy of `properties` with the values at `paths` sealed; `*` stands for every item."""
    sealed: Json = properties
    for path in paths:
        parts = path.removeprefix("/properties/").strip("/").split("/")
        sealed = _sealed_at(sealed, parts, key, context)
    return sealed  # type: ignore[no-any-return]


def _sealed_at(value: Json, parts: list[str], key: SecretStr, context: str) -> Json:
    if not parts:
        return seal(value, key, context)
    if isinstance(value, list):
        rest = parts[1:] if parts[0] == "*" else parts  # registry schemas also leave the `*` out
        return [_sealed_at(item, rest, key, f"{context}/{index}") for index, item in enumerate(value)]
    if not isinstance(value, dict) or is_sealed(value):
        return value
    names = list(value) if parts[0] == "*" else [parts[0]] if parts[0] in value else []
    return {**value, **{name: _sealed_at(value[name], parts[1:], key, f"{context}/{name}") for name in names}}
