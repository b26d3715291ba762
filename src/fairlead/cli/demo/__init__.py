"""`fairlead demo`: the product's main job, told step by step, on a local AWS."""

from pathlib import Path
from typing import Annotated

import typer


def demo(
    data_dir: Annotated[
        Path, typer.Option(help="Where the demo keeps everything; emptied at the start.")
    ] = Path("build/demo"),
    toolenvs: Annotated[Path, typer.Option(help="Environments of the external programs.")] = Path(
        ".toolenvs"
    ),
    json_: Annotated[
        bool, typer.Option("--json", help="Print what came of it as JSON; tell on stderr.")
    ] = False,
) -> None:
    """Plan, approve, apply, change and verify on a local AWS: the whole job, under a minute."""
    from fairlead.cli.demo.story import tell

    tell(data_dir, toolenvs, as_json=json_)
