"""A plan as people expect to read it: grouped, coloured, property by property, with risk, cost and order."""

import json
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

SIGNS = {
    "create": ("+", "green"),
    "update": ("~", "yellow"),
    "replace": ("±", "magenta"),
    "delete": ("-", "red"),
}
GROUPS = (("create", "Create"), ("update", "Update in place"), ("replace", "Replace"), ("delete", "Delete"))
RISK_STYLES = {"LOW": "green", "MEDIUM": "yellow", "HIGH": "bold red"}
WIDTH = 72


def plan_view(document: dict[str, Any]) -> RenderableType:
    """The whole plan: groups of changes, then order, risk, cost and the summary line."""
    changes = document["changes"]
    parts: list[RenderableType] = []
    for action, title in GROUPS:
        members = [change for change in changes if change["action"] == action]
        if members:
            sign, style = SIGNS[action]
            parts.append(Text(f"{title} ({len(members)})", style=f"bold {style}"))
            parts.extend(_change(change, sign, style) for change in members)
            parts.append(Text(""))
    if not changes:
        return Text("No changes. What is there matches the template.", style="green")
    parts += [_order(document), _risk(document), _cost(document), Text(""), summary(document)]
    return Group(*parts)


def summary(document: dict[str, Any]) -> Text:
    """`Plan: 14 to create, 1 to update …`."""
    text = Text("Plan: ", style="bold")
    counted = [(name, sum(change["action"] == name for change in document["changes"])) for name, _ in GROUPS]
    shown = [(name, number) for name, number in counted if number]
    for position, (name, number) in enumerate(shown):
        text.append(", " if position else "").append(f"{number} to {name}", style=SIGNS[name][1])
    text.append(f", {document.get('unchanged', 0)} unchanged.")
    return text


def _change(change: dict[str, Any], sign: str, style: str) -> RenderableType:
    head = Text(f"  {sign} ", style=f"bold {style}")
    head.append(change["logical_id"], style="bold").append(f"  {change['type']}", style="cyan")
    if change.get("identifier"):
        head.append(f"  {change['identifier']}", style="dim")
    if change["replacement"] == "conditional":
        head.append("  may be replaced", style="magenta")
    risk = change.get("risk")
    if risk and risk["level"] != "LOW":
        head.append(f"  {risk['level']}", style=RISK_STYLES[risk["level"]])
    lines: list[RenderableType] = [head]
    if change["action"] in ("create", "update", "replace"):
        lines.extend(_property(item, change["action"]) for item in change["properties"])
    lines.extend(Text(f"      ! {note}", style="yellow") for note in change.get("notes", ()))
    return Group(*lines)


def _property(item: dict[str, Any], action: str) -> Text:
    before, after = item.get("before"), item.get("after")
    if (
        (action == "create" or before is None)
        and isinstance(after, dict | list)
        and len(_json(after)) > WIDTH
    ):
        line = Text("      + ", style="green").append(item["path"], style="default").append(" =")
        for part in _block(after):
            line.append(f"\n          {part}")
    elif action == "create" or before is None:
        line = (
            Text("      + ", style="green")
            .append(item["path"], style="default")
            .append(" = ")
            .append(_value(after))
        )
    elif after is None:
        line = (
            Text("      - ", style="red").append(item["path"], style="default").append(f" = {_value(before)}")
        )
    else:
        line = Text("      ~ ", style="yellow").append(item["path"], style="default")
        line.append(f": {_value(before)}", style="red").append(" → ", style="dim").append(
            _value(after), style="green"
        )
    if action != "create":
        if item.get("requires_replacement"):
            line.append("  # forces replacement", style="magenta")
        elif item.get("replacement") == "conditional":
            line.append("  # may force replacement", style="magenta")
        if item.get("drift"):
            line.append("  # changed outside Fairlead", style="yellow")
    return line


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _block(value: Any) -> list[str]:
    """A nested value over several lines: one an item or key, as long as each fits."""
    if isinstance(value, list):
        parts = [f"- {_value(item)}" if len(_json(item)) <= 2 * WIDTH else item for item in value]
        return [
            line
            for part in parts
            for line in ([part] if isinstance(part, str) else _indented("- ", _block(part)))
        ]
    lines = []
    for key, item in value.items():
        if isinstance(item, dict | list) and len(_json(item)) > WIDTH:
            lines += [f"{key}:", *_indented("  ", _block(item))]
        else:
            lines.append(f"{key}: {_value(item)}")
    return lines


def _indented(first: str, lines: list[str]) -> list[str]:
    return [f"{first if index == 0 else '  '}{line}" for index, line in enumerate(lines)]


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else _json(value)
    text = text.replace("\n", "⏎")
    return text if len(text) <= 2 * WIDTH else f"{text[: 2 * WIDTH - 1]}…"


def _order(document: dict[str, Any]) -> Text:
    text = Text("Order  ", style="bold")
    for position, wave in enumerate(document.get("waves", ()), start=1):
        text.append("" if position == 1 else " → ", style="dim").append(f"{position}. ", style="dim").append(
            ", ".join(wave)
        )
    return text


def _risk(document: dict[str, Any]) -> Text:
    risk = document["risk"]
    text = Text("Risk   ", style="bold").append(risk["level"], style=RISK_STYLES[risk["level"]])
    text.append(f"  {risk['points']} points", style="dim")
    for reason in risk["reasons"]:
        text.append(f"\n         · {reason}")
    return text


def _cost(document: dict[str, Any]) -> Text:
    cost = document["cost"]
    text = Text("Cost   ", style="bold")
    if cost.get("delta_usd") is None:
        text.append("unknown", style="yellow")
    else:
        text.append(f"{cost['delta_usd']:+,.2f} USD a month")
    if cost.get("source"):
        text.append(f"  {cost['source']}, {cost['as_of']}", style="dim")
    if cost.get("unknown"):
        text.append(
            f"\n         · not counted (usage-based or not in the price list): {', '.join(cost['unknown'])}",
            style="dim",
        )
    return text


def plans_table(rows: list[dict[str, Any]]) -> Table:
    """Plans of a project, newest first."""
    table = Table(box=None, pad_edge=False)
    for column in ("plan", "status", "risk", "author", "created", "description"):
        table.add_column(column, header_style="bold")
    for row in rows:
        risk = row.get("risk") or "–"
        table.add_row(
            str(row["number"]),
            row["status"],
            Text(risk, style=RISK_STYLES.get(risk, "dim")),
            row["author"],
            row["created_at"][:16],
            row["description"],
        )
    return table
