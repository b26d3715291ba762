"""`fairlead demo-cases`: from case folders to verdicts, over SSH, on synthetic cases."""

from pathlib import Path
from typing import Annotated

import typer


def demo_cases(
    data_dir: Annotated[
        Path, typer.Option(help="Where the demo keeps everything; emptied at the start.")
    ] = Path("build/demo-cases"),
    json_: Annotated[
        bool, typer.Option("--json", help="Print what came of it as JSON; tell on stderr.")
    ] = False,
) -> None:
    """Watch for three synthetic cases, calculate them on a host over SSH, judge them: under a minute."""
    from fairlead.cli.demo_cases.story import tell

    tell(data_dir, as_json=json_)
