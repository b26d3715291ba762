"""What the sandbox must know of a type to show it as it is."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Model = dict[str, Any]


def _same(text: str) -> str:
    return text


def _physical(physical: str, _: Model) -> str:
    return physical


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One type. A `key` is how its service finds the thing; a `physical` id is CloudFormation's name."""

    type_name: str
    keys: Callable[[], Iterable[str]]  # of all that exist in the caller's account and region
    read: Callable[[str], Model | None]  # what `key` is now; None when it is gone
    key_of: Callable[[str], str] = _same  # primary identifier → key
    physical_of: Callable[[str], str] = _same  # key → physical id
    key_after: Callable[[str, Model], str] = _physical  # physical id and properties of a new one → key
    unique: tuple[str, ...] = ()  # properties, not the identifier, that no two may share


def some(**members: Any) -> Model:
    """Those members that say something."""
    return {name: value for name, value in members.items() if value not in (None, "", [], {})}


def tag_list(tags: Any) -> list[Model]:
    """Tags as CloudFormation writes them, whatever form the service keeps; the service's own are left out."""
    if isinstance(tags, Mapping):
        pairs = list(tags.items())
    else:
        pairs = [
            (
                tag.get("Key", tag.get("TagKey", tag.get("key"))),
                tag.get("Value", tag.get("TagValue", tag.get("value"))),
            )
            for tag in tags or []
        ]
    return [{"Key": key, "Value": value} for key, value in pairs if not str(key).startswith("aws:")]


def tag_map(tags: Any) -> Model:
    """Tags as an object."""
    return {tag["Key"]: tag["Value"] for tag in tag_list(tags)}


def document(text: Any) -> Any:
    """A policy that the service keeps as text, parsed."""
    if not isinstance(text, str) or not text:
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def renamed(source: Mapping[str, Any], names: Mapping[str, str]) -> Model:
    """Members of `source` under their CloudFormation names; what says nothing is left out."""
    return some(**{cloudformation: source.get(native) for native, cloudformation in names.items()})


def picked(source: Mapping[str, Any], *names: str) -> Model:
    """Members of `source` whose names are the same on both sides."""
    return some(**{name: source.get(name) for name in names})
