"""Files that commands write where they are told to."""

from pathlib import Path

import typer

from fairlead.kernel.errors import FairleadError

ENDINGS = (".html", ".json", ".csv")


class FileUnwritable(FairleadError):
    """A file could not be written."""

    code, status, retryable = "cli.file_unwritable", 400, False


def report_file(out: Path | None) -> Path | None:
    """An option's value: a file whose ending says in which form a report is wanted."""
    if out is not None and out.suffix.lower() not in ENDINGS:
        raise typer.BadParameter(f"The file ends with one of {', '.join(ENDINGS)}.")
    return out


def make_ready(out: Path) -> None:
    """Make the folder of `out` and see that it takes a file, before there is one. Raises FileUnwritable."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.open("ab"):
            pass
        if out.stat().st_size == 0:
            out.unlink()
    except OSError as error:
        raise _unwritable(out, error) from error


def write(out: Path, content: bytes) -> None:
    """Write a file, and its folder where it is missing. Raises FileUnwritable."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(content)
    except OSError as error:
        raise _unwritable(out, error) from error


def _unwritable(out: Path, error: OSError) -> FileUnwritable:
    return FileUnwritable(
        f"{out} cannot be written: {error.strerror or type(error).__name__}.",
        remedy="Give another --out, or make room and rights there.",
        path=str(out),
    )
