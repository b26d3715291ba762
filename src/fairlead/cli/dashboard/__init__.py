"""`fairlead cases dashboard`: the pipeline in a terminal, live. Textual is loaded only when it runs."""

import sys
from typing import Annotated

import typer

from fairlead.cli.client import Client, current_project, load_credentials
from fairlead.kernel.errors import FairleadError


class NotATerminal(FairleadError):
    """The dashboard needs a terminal."""

    code, status, retryable = "cli.not_a_terminal", 400, False


def dashboard(
    project: Annotated[
        str | None, typer.Option("--project", "-p", help="Project; default: FAIRLEAD_PROJECT.")
    ] = None,
    after: Annotated[
        int, typer.Option(help="Show a case's log only after this number.", min=0, max=2**31 - 1)
    ] = 0,
) -> None:
    """Queues, hosts, GPUs, running steps and logs, live in this terminal; press ? there for its keys."""
    if not (sys.stdout.isatty() and sys.stdin.isatty()):
        raise NotATerminal(
            "The dashboard needs a terminal to draw on.",
            remedy="Without one there are `fairlead cases list` and `fairlead runs watch`, both with --json.",
        )
    from fairlead.cli.dashboard.app import Dashboard
    from fairlead.cli.dashboard.feed import ANSWER_S, Feed

    def connect() -> Client:
        return Client(load_credentials(), answer_s=ANSWER_S)

    chosen = current_project(project)
    Dashboard(Feed(connect, chosen), chosen, log_after=after).run()
