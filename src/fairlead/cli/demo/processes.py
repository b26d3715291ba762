"""Processes that a demo starts: they end with it, however that happens, and their logs stay in its folder."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fairlead.cli.demo.story import DemoFailed, tail
from fairlead.kernel.settings import child_environment

END_S = 30.0


@contextmanager
def started(
    folder: Path, name: str, arguments: Sequence[str], **variables: str
) -> Iterator["subprocess.Popen[bytes]"]:
    """Our interpreter with `arguments`, which ends when its standard input does; its log is NAME.log."""
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and modules
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=child_environment(variables),
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.stdin:
            process.stdin.close()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()


@contextmanager
def announced(folder: Path, name: str, arguments: Sequence[str], **variables: str) -> Iterator[bytes]:
    """The first line that the process says. Raises DemoFailed where there is none."""
    with started(folder, name, arguments, **variables) as process:
        line = process.stdout.readline() if process.stdout else b""
        if not line:
            log = folder / f"{name}.log"
            raise DemoFailed(f"{name} did not start.", remedy=f"Read {log}.", last_lines=tail(log))
        yield line
