"""Runs inside service-screener's environment, never in ours: its main.py, with every call to AWS watched.

    python launcher.py GUARD [argument of main.py …]      in the folder of a private copy of it

It ends with all it started where standard input ends: whoever started it is gone then.
"""

import io
import os
import runpy
import signal
import sys
import threading
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any


def _end_with_parent() -> None:
    while os.read(0, 4096):
        pass
    os.killpg(0, signal.SIGKILL)


def _watch_calls(guard_file: str) -> None:
    """Every session of boto3 that is made from now on lets through reads alone."""
    import boto3

    spec = spec_from_file_location("guard", guard_file)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError("guard")
    guarding = module_from_spec(spec)
    spec.loader.exec_module(guarding)

    class Session(boto3.session.Session):  # type: ignore[misc]
        """Of boto3, watched."""

        def __init__(self, *positional: Any, **named: Any) -> None:
            super().__init__(*positional, **named)
            guarding.guard(self)

    boto3.Session = boto3.session.Session = Session


def main() -> None:
    """main.py as if it had been started itself."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Its processes write to one pipe: a line and its end in one piece, or they end up within each other.
        sys.stdout.reconfigure(line_buffering=True, write_through=False)
    _watch_calls(sys.argv[1])
    folder = Path.cwd()
    sys.path.insert(0, str(folder))  # its modules lie there
    sys.argv = [str(folder / "main.py"), *sys.argv[2:]]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
