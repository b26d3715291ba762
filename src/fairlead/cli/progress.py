"""A run as it happens: a row per resource that changes in place on a terminal, a line per event elsewhere."""

import time
from collections.abc import Iterable
from typing import Any

from rich.live import Live
from rich.table import Table
from rich.text import Text

from fairlead.cli.output import console

MARKS = {
    "waiting": ("·", "dim"),
    "running": ("⋯", "cyan"),
    "succeeded": ("✓", "green"),
    "failed": ("✗", "bold red"),
    "skipped": ("⊘", "yellow"),
    "cancelled": ("⊘", "yellow"),
}


class ApplyProgress:
    """What each node of an apply is doing, fed by the run's events."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self.nodes: dict[str, dict[str, Any]] = {}
        self.began = time.monotonic()
        self.last: dict[str, Any] = {}

    def feed(self, event: dict[str, Any]) -> str | None:
        """Take in one event; a line about it for logs, or None when it says nothing to a person."""
        kind, data = event["type"], event.get("data") or {}
        self.last = event
        if kind == "apply.started":
            self.nodes = {node["node"]: {**node, "state": "waiting"} for node in data["nodes"]}
            return f"applying {len(self.nodes)} changes"
        if kind.startswith("node."):
            return self._node(kind.removeprefix("node."), data)
        if kind == "state.committed":
            return f"state version {data['version']}  {data['address']}"
        return None

    def _node(self, what: str, data: dict[str, Any]) -> str | None:
        node = self.nodes.setdefault(data["node"], dict(data))
        now = time.monotonic()
        if what == "started":
            node.update(state="running", began=now)
            return None
        if what in ("succeeded", "failed", "skipped", "cancelled"):
            # Until it ends a node counts from when we first saw it; a resumed run starts later.
            node.update(data, state=what, seconds=now - node.get("began", now))
            problem = data.get("problem") or {}
            outcome = data.get("identifier") or problem.get("detail") or ""
            return f"{MARKS[what][0]} {node['logical_id']} {node['action']} {outcome}".rstrip()
        node.update(data)
        return None

    def table(self) -> Table:
        """One row a node, as wide as the terminal allows."""
        table = Table(box=None, pad_edge=False, show_header=False, expand=True)
        names = max((len(node["logical_id"]) for node in self.nodes.values()), default=0)
        for width in (1, max(names, 7), 6):
            table.add_column(width=width, no_wrap=True)
        table.add_column(width=8, justify="right", no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        now = time.monotonic()
        for node in self.nodes.values():
            mark, style = MARKS[node["state"]]
            seconds = node.get("seconds", now - node["began"] if "began" in node else None)
            problem = node.get("problem") or {}
            remark = problem.get("detail") or node.get("identifier") or ""
            table.add_row(
                Text(mark, style=style),
                Text(node["logical_id"], style="bold" if node["state"] == "running" else ""),
                Text(node["action"], style="dim"),
                Text("" if seconds is None else f"{seconds:.1f} s", style="dim"),
                Text(str(remark), style="red" if problem else "dim"),
            )
        done = sum(node["state"] == "succeeded" for node in self.nodes.values())
        table.add_row(
            "",
            Text(f"{done}/{len(self.nodes)}", style="bold"),
            "",
            Text(f"{now - self.began:.1f} s", style="dim"),
            "",
        )
        return table


def follow(events: Iterable[dict[str, Any]]) -> ApplyProgress:
    """Show the run until it ends; returns what was seen, the last event included."""
    progress = ApplyProgress()
    out = console()
    if not out.is_terminal:
        for event in events:
            if line := progress.feed(event):
                out.print(line, markup=False)
        return progress
    with Live(console=out, refresh_per_second=8, get_renderable=progress.table) as live:
        for event in events:
            line = progress.feed(event)
            if line and event["type"] == "state.committed":
                live.console.print(line, markup=False)
    return progress
