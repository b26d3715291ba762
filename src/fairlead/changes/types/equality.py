"""When two values of a property mean the same to AWS, so that no plan shows the same change for ever.

Equal are: a number or boolean and its text; a document and its JSON text; unordered arrays in any
order, lists of subnets, security groups and zones always; tags by key; in IAM policies one item and a
list of it, in any order; and what a property transform of the schema says AWS gives back. Everything
else is equal only to itself: text is never folded, trimmed or parsed when both sides are text, except
where the schema or IAM says so.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fairlead.changes.model import Unknown
from fairlead.changes.types.transforms import gives_back

if TYPE_CHECKING:
    from fairlead.changes.registry import ResourceType

Path = tuple[str, ...]

# Where something may be, or who guards it: many schemas forget to say that the order means nothing.
_SETS = frozenset(
    {
        "AvailabilityZones",
        "SecurityGroupIds",
        "SecurityGroups",
        "SubnetIds",
        "Subnets",
        "VpcSecurityGroupIds",
    }
)
_PROTOCOLS = {"1": "icmp", "6": "tcp", "17": "udp", "58": "icmpv6"}
_POLICY_NAMES = frozenset(
    {"KeyPolicy", "ResourcePolicy", "AccessPolicies", "RepositoryPolicyText", "FileSystemPolicy"}
)


def dotted(path: Path) -> str:
    """The path as people read it: `Tags.0.Value`."""
    return ".".join(path)


def pointer(path: Path) -> str:
    """The path as the schemas write it: `/properties/Tags/*/Value`."""
    return "/properties/" + "/".join("*" if part.isdigit() else part for part in path)


def same(a: Any, b: Any, path: Path, kind: ResourceType) -> bool:
    """Whether `a` and `b` mean the same at `path` of a resource of type `kind`."""
    return _match(a, b, path, kind, subset=False)


def covered(wanted: Any, live: Any, path: Path, kind: ResourceType) -> bool:
    """Whether `live` holds all of `wanted`; what only AWS has filled in (defaults) does not count."""
    return _match(wanted, live, path, kind, subset=True)


def _match(a: Any, b: Any, path: Path, kind: ResourceType, *, subset: bool) -> bool:
    if type(a) is type(b) and a == b:
        return True  # by far the most frequent, and decided without looking inside
    if isinstance(a, Unknown) or isinstance(b, Unknown):
        return False
    if isinstance(a, dict) and isinstance(b, dict):
        return _dicts(a, b, path, kind, subset=subset)
    if isinstance(a, list) and isinstance(b, list):
        return _lists(a, b, path, kind, subset=subset)
    if isinstance(a, str) and isinstance(b, str):
        return _texts(a, b, path, kind)
    if isinstance(a, dict | list) or isinstance(b, dict | list):
        return _mixed(a, b, path, kind, subset=subset)
    return a is b or (a is not None and b is not None and scalar_text(a) == scalar_text(b))


def scalar_text(value: Any) -> str:
    """The text that CloudFormation takes for this scalar: `true`, `443`, `0.5`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _dicts(a: dict[str, Any], b: dict[str, Any], path: Path, kind: ResourceType, *, subset: bool) -> bool:
    if subset:
        return all(key in b and _match(v, b[key], (*path, key), kind, subset=True) for key, v in a.items())
    return a.keys() == b.keys() and all(
        _match(v, b[key], (*path, key), kind, subset=False) for key, v in a.items()
    )


def _lists(a: list[Any], b: list[Any], path: Path, kind: ResourceType, *, subset: bool) -> bool:
    if tagged(a) and tagged(b):
        return _tags(a, b)
    if len(a) != len(b):
        return False
    item = (*path, "0")
    if all(_match(x, y, item, kind, subset=subset) for x, y in zip(a, b, strict=True)):
        return True
    if not (in_policy(path) or unordered(path, kind)):
        return False
    left = list(b)
    for wanted in a:
        for index, candidate in enumerate(left):
            if _match(wanted, candidate, item, kind, subset=subset):
                del left[index]
                break
        else:
            return False
    return True


def unordered(path: Path, kind: ResourceType) -> bool:
    """Whether the order of this array means nothing: the schema says so, or everybody knows."""
    return kind.unordered(dotted(path)) or (bool(path) and path[-1] in _SETS)


def tagged(items: list[Any]) -> bool:
    """Whether this is a list of tags: `{Key, Value}` with every key once."""
    keys = [i.get("Key") for i in items if isinstance(i, dict) and "Key" in i and i.keys() <= _TAG_KEYS]
    return len(keys) == len(items) and all(isinstance(k, str) for k in keys) and len(set(keys)) == len(keys)


_TAG_KEYS = frozenset({"Key", "Value", "PropagateAtLaunch"})


def _tags(a: list[dict[str, Any]], b: list[dict[str, Any]]) -> bool:
    return _tag_set(a) == _tag_set(b)


def _tag_set(tags: list[dict[str, Any]]) -> dict[str, Any]:
    # Keys that start with aws: belong to AWS; nobody can ask for them.
    return {
        tag["Key"]: {
            key: value if isinstance(value, Unknown) else scalar_text(value) for key, value in tag.items()
        }
        for tag in tags
        if not tag["Key"].startswith("aws:")
    }


def in_policy(path: Path) -> bool:
    """Whether the path lies in an IAM policy document, where one item and a list of it are the same."""
    return any(part.endswith("PolicyDocument") or part in _POLICY_NAMES for part in path)


def _texts(a: str, b: str, path: Path, kind: ResourceType) -> bool:
    if path and path[-1] == "IpProtocol":
        return _PROTOCOLS.get(a, a.lower()) == _PROTOCOLS.get(b, b.lower())
    if in_policy(path) and a[:1] == "{" == b[:1]:
        return _match(_parsed(a), _parsed(b), path, kind, subset=False)
    expression = kind.property_transforms.get(pointer(path)) if kind.property_transforms else None
    return expression is not None and (gives_back(expression, a, b) or gives_back(expression, b, a))


def _mixed(a: Any, b: Any, path: Path, kind: ResourceType, *, subset: bool) -> bool:
    """A container against something else: a document against its text, a list against its one item."""
    if isinstance(a, str | dict | list) and isinstance(b, str | dict | list):
        parsed_a, parsed_b = _parsed(a), _parsed(b)
        if type(parsed_a) is type(parsed_b) and not isinstance(parsed_a, str):
            return _match(parsed_a, parsed_b, path, kind, subset=subset)
    if in_policy(path) and isinstance(a, list) != isinstance(b, list):
        many, one = (a, b) if isinstance(a, list) else (b, a)
        return len(many) == 1 and _match(many[0], one, path, kind, subset=subset)
    return False


def _parsed(value: Any) -> Any:
    """The document that a JSON text holds; anything else as it is."""
    if not isinstance(value, str) or value[:1] not in "{[":
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value
