"""The `fairlead` command: a thin, quick client of the HTTP API, plus what works offline.

Exit codes: 0 done (for plan and diff: no changes) · 1 error · 2 there are changes ·
3 the plan was rejected, expired or cancelled · 4 a run failed · 130 interrupted.
"""

import sys
from typing import Annotated

import typer

from fairlead.cli import output
from fairlead.kernel.errors import FairleadError

EXIT_ERROR, EXIT_CHANGES, EXIT_REFUSED, EXIT_RUN_FAILED, EXIT_INTERRUPTED = 1, 2, 3, 4, 130

app = typer.Typer(
    name="fairlead",
    help=(
        "Plan, approve and apply cloud changes; every effect is a durable, authorised, audited run.\n\n"
        "Exit codes: 0 done or no changes, 1 error, 2 changes, 3 rejected, expired or cancelled, "
        "4 run failed, 130 interrupted."
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        from fairlead import __version__

        typer.echo(f"fairlead {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options that come before every command."""


def _register() -> None:
    from fairlead.cli import (
        account,
        cases,
        changes,
        runs,
        server,
        support,
        support_customers,
        support_engines,
        support_jobs,
        support_monthly,
        support_screen,
    )
    from fairlead.cli.demo import demo
    from fairlead.cli.demo_cases import demo_cases
    from fairlead.cli.demo_support import demo_support

    app.add_typer(changes.app, name="changes")
    app.add_typer(runs.app, name="runs")
    app.add_typer(cases.app, name="cases")
    support_screen.register(support.app)
    support_monthly.register(support.app)
    support_customers.register(support.app)
    support_jobs.register(support.app)
    support_engines.register(support.app)
    app.add_typer(support.app, name="support")
    account.register(app)
    server.register(app)
    app.command()(demo)
    app.command()(demo_cases)
    app.command()(demo_support)


def main() -> None:
    """Entry point: every failure becomes a clear message and a documented exit code."""
    _register()
    wants_json = "--json" in sys.argv
    try:
        code = app(standalone_mode=False, prog_name="fairlead")
    except typer.Abort:
        code = EXIT_INTERRUPTED
    except typer.TyperException as error:
        output.usage_error(error, as_json=wants_json)
        code = EXIT_ERROR
    except FairleadError as error:
        output.failure(error, as_json=wants_json)
        code = EXIT_ERROR
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except BrokenPipeError:
        # `fairlead … | head` is not an error.
        sys.stderr.close()
        code = 0
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
