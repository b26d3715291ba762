"""What the command line prints: JSON for programs, short and coloured text for people."""

import json
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

from fairlead.kernel.errors import FairleadError

if TYPE_CHECKING:
    import typer
    from rich.console import Console
    from rich.table import Table

WIDTH = 200  # of tables that no terminal shows

_reserved = False


def reserve_stdout() -> None:
    """From now on people are told on standard error: standard output is for one JSON document."""
    global _reserved  # noqa: PLW0603 - there is one standard output
    _reserved = True


def console(*, stderr: bool = False) -> "Console":
    """The terminal; colour only where one looks at it."""
    return _console(stderr=stderr or _reserved)


@cache
def _console(*, stderr: bool) -> "Console":
    from rich.console import Console

    # Lines are broken between words where a person looks, and never where a program reads.
    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    width = None if terminal else WIDTH
    return Console(stderr=stderr, highlight=False, soft_wrap=not terminal, width=width)


def table(*columns: str) -> "Table":
    """A plain table with these heads. Cells that do not fit go on in the next line: ids are to be copied."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False)
    for name in columns:
        made.add_column(name, overflow="fold")
    return made


def as_json(value: Any) -> None:
    """`value` on standard output as indented JSON, one document."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def failure(error: FairleadError, *, as_json: bool) -> None:
    """An expected failure: as a problem document, or as message, place and remedy."""
    if as_json:
        sys.stdout.write(json.dumps(error.problem(), indent=2, ensure_ascii=False, default=str) + "\n")
        return
    from rich.markup import escape

    out = console(stderr=True)
    code = error.problem()["code"]
    out.print(f"[bold red]error[/] {escape(error.message)}  [dim]({escape(str(code))})[/]")
    for line in detail_lines(error.details):
        out.print(f"  {escape(line)}")
    if error.remedy:
        out.print(f"[bold]remedy[/] {escape(error.remedy)}")


def detail_lines(details: dict[str, Any]) -> list[str]:
    """Faults and moved resources, one a line; other details are for machines."""
    lines = []
    for fault in details.get("faults", ()):
        if isinstance(fault, dict):
            where = fault.get("path") or fault.get("field") or "template"
            line = f" line {fault['line']}" if fault.get("line") else ""
            code = f"  ({fault['code']})" if fault.get("code") else ""
            lines.append(f"{where}{line}: {fault.get('message', '')}{code}")
    moved = [item for item in details.get("moved", ()) if isinstance(item, dict)]
    return lines + [f"{item.get('logical_id', '?')}: {item.get('what', 'changed')}" for item in moved]


def usage_error(error: "typer.TyperException", *, as_json: bool) -> None:
    """A wrong command line, with the way to the help; without any command, the help itself."""
    from rich.markup import escape

    message = error.format_message() if hasattr(error, "format_message") else str(error)
    context = getattr(error, "ctx", None)
    if as_json:
        sys.stdout.write(json.dumps({"code": "cli.usage", "status": 400, "detail": message}, indent=2) + "\n")
    elif message.startswith("Usage:"):
        sys.stderr.write(message + "\n")
    else:
        path = context.command_path if context else "fairlead"
        console(stderr=True).print(f"[bold red]error[/] {escape(message)}\nTry '{path} --help'.")
