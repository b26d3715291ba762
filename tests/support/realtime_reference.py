"""The messages of the sockets as tables, for docs/reference/realtime.md.

`python -m tests.support.realtime_reference` writes them anew between the marks in that file.
"""

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from fairlead.support import messages

DOCUMENT = Path(__file__).parents[2] / "docs" / "reference" / "realtime.md"
BEGIN, END = "<!-- tables: python -m tests.support.realtime_reference -->", "<!-- /tables -->"
_LIMITS = (
    ("maxLength", "at most {} characters"),
    ("pattern", "`{}`"),
    ("minimum", "from {}"),
    ("maximum", "to {}"),
    ("maxProperties", "at most {} entries"),
)


def type_of(schema: dict[str, Any], definitions: dict[str, Any]) -> str:
    """A field's type in words."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        found = definitions[name]
        return type_of(found, definitions) if "enum" in found else f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(type_of(one, definitions) for one in schema["anyOf"]))
    if "const" in schema:
        return f"`{str(schema['const']).lower()}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {type_of(schema['items'], definitions)}"
    if "patternProperties" in schema:
        (values,) = schema["patternProperties"].values()
        return f"object of {type_of(values, definitions)}"
    return "moment (ISO 8601)" if schema.get("format") == "date-time" else str(schema.get("type", "any"))


def _limits(schema: dict[str, Any]) -> list[str]:
    # A `|` would end the cell.
    return [words.format(str(schema[name]).replace("|", "\\|")) for name, words in _LIMITS if name in schema]


def rows(model: type[BaseModel]) -> list[str]:
    """A line for each field."""
    schema = model.model_json_schema(by_alias=True)
    definitions, required = schema.get("$defs", {}), schema.get("required", [])
    lines = []
    for name, field in schema.get("properties", {}).items():
        notes = [field.get("description", ""), *_limits(field)]
        need = "" if name in required else "optional"
        kind = type_of(field, definitions)
        lines.append(f"| `{name}` | {kind} | {need} | {'; '.join(note for note in notes if note)} |")
    return lines


def section(title: str, model: type[BaseModel], *, depth: int = 4) -> str:
    """One message."""
    said = (model.__doc__ or "").strip()
    table = rows(model)
    head = [f"{'#' * depth} {title}", "", said]
    return "\n".join([*head, "", "| field | type | | |", "|---|---|---|---|", *table] if table else head)


def nested() -> list[type[BaseModel]]:
    """Parts of messages, by name."""
    parts = (
        messages.Problem,
        messages.Evidence,
        messages.Span,
        messages.Suggestion,
        messages.Counts,
    )
    return sorted(parts, key=lambda one: one.__name__)


def tables() -> str:
    """All messages."""
    parts = ["### From the app", section("`auth` of the connection", messages.Auth)]
    parts += [section(f"`{name}`", model) for name, model in messages.REQUESTS.items()]
    parts += ["### Acknowledgements", section("Taken", messages.Taken), section("Refused", messages.Refused)]
    parts += ["### To the app", section("`hello`", messages.Hello)]
    parts += ["#### `session_expiring`\n\nRenew the session: `{}`.", section("`job`", messages.JobEvent)]
    parts += ["### `data` of a `job`, by `kind`"]
    parts += [section(f"`{name}`", model) for name, model in messages.KINDS.items()]
    parts += ["### Parts", *(section(model.__name__, model) for model in nested())]
    return "\n\n".join(parts)


def documented() -> str:
    """The tables as the document has them."""
    return DOCUMENT.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0].strip()


if __name__ == "__main__":
    text = DOCUMENT.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{tables()}\n\n{END}{rest.split(END)[1]}", encoding="utf-8")
