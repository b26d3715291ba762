"""`fairlead demo-support`: an agent beside a ticket, a customer's account, and all between them."""

from pathlib import Path
from typing import Annotated

import typer


def demo_support(
    data_dir: Annotated[
        Path, typer.Option(help="Where the demo keeps everything, pictures included; emptied at the start.")
    ] = Path("build/demo-support"),
    toolenvs: Annotated[Path, typer.Option(help="Environments of the external programs.")] = Path(
        ".toolenvs"
    ),
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")] = False,
) -> None:
    """The Zendesk app in a real browser: questions, a screening and reports on two customers' accounts."""
    from fairlead.cli.demo_support.story import tell

    tell(data_dir, toolenvs, as_json=json_)
