"""Options that several commands of `fairlead support` have."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fairlead.cli.files import report_file


class Language(StrEnum):
    """Languages of answers and reports."""

    KOREAN = "ko"
    ENGLISH = "en"


Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Project = Annotated[str | None, typer.Option("--project", "-p", help="Project; default: FAIRLEAD_PROJECT.")]
Out = Annotated[
    Path | None,
    typer.Option(callback=report_file, help="Report to write; .html, .json or .csv by its ending."),
]

# Of commands that read an account themselves, without a server.
Profile = Annotated[
    str | None, typer.Option(help="Profile of the AWS configuration; default: the SDK's own chain.")
]
EndpointUrl = Annotated[str | None, typer.Option(help="A local AWS, e.g. http://127.0.0.1:8710.")]
Regions = Annotated[
    list[str] | None, typer.Option(help="Region to read, repeatable; default: all that are switched on.")
]
MustBe = Annotated[str | None, typer.Option(help="Account that it must be; any other is refused.")]
Timeout = Annotated[float, typer.Option(min=1, help="Seconds after which it ends with what it has.")]
