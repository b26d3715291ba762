"""What the template tests share: short ways to load, bind and list faults."""

from pathlib import Path
from typing import Any

from fairlead.changes.template import Bound, TemplateInvalid, bind, load

SHOP = Path(__file__).parent / "data" / "shop.yaml"
PLACE = {"region": "us-east-1", "account_id": "123456789012", "stack_name": "shop"}
LIMIT = 16 * 1024 * 1024


def bound(text: str | bytes, parameters: dict[str, Any] | None = None, **place: Any) -> Bound:
    """`text` bound in us-east-1; raises what load and bind raise."""
    data = text.encode() if isinstance(text, str) else text
    settings = {"exports": {}, **PLACE, **place}
    return bind(load(data, max_bytes=LIMIT), parameters or {}, **settings)


def faults(
    text: str | bytes, parameters: dict[str, Any] | None = None, **place: Any
) -> list[tuple[Any, ...]]:
    """(code without its first word, line, path) of every fault that load or bind reports, [] for none."""
    try:
        bound(text, parameters, **place)
    except TemplateInvalid as invalid:
        return [(f.code.removeprefix("template."), f.line, f.path) for f in invalid.faults]
    return []


def topic(value: str, more: str = "") -> str:
    """A template with one topic whose DisplayName is the YAML `value`, and `more` sections."""
    return f"Resources:\n  T:\n    Type: AWS::SNS::Topic\n    Properties:\n      DisplayName: {value}\n{more}"


def display_name(value: str, more: str = "", parameters: dict[str, Any] | None = None, **place: Any) -> Any:
    """What the DisplayName of that topic is bound to."""
    return bound(topic(value, more), parameters, **place).resources["T"].properties["DisplayName"]
