"""Programs of dose engines: argument lists, one log, a deadline, and no process left behind."""

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from fairlead.cases.engines.port import Control, EngineFailed, EngineNotConfigured, storage_error
from fairlead.kernel import toolenv

_LOOK_S = 0.05
_GRACE_S = 3.0  # between SIGTERM and SIGKILL
_INHERITED = frozenset({"PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES"})
_INHERITED_PREFIXES = ("SLURM_", "NVIDIA_", "CUDA_", "OMP_")
MAX_LOG_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Program:
    """One process to run."""

    engine: str
    argv: Sequence[str]
    folder: Path  # its working directory
    log: Path  # standard output and error; written anew
    variables: Mapping[str, str] = field(default_factory=dict)


def run(program: Program, control: Control, progress_of: Callable[[str], float | None]) -> str:
    """Run the program to its end; its log.

    `progress_of` reads a share of the work done, 0 … 1, from what was logged last. Raises EngineFailed for
    an exit code other than 0, EngineNotConfigured where there is no such program, EngineCancelled and
    EngineDeadline; the process and what it started have ended by then.
    """
    control.check()
    with program.log.open("wb") as log:
        process = _start(program, log.fileno(), control)
        try:
            best = 0.0
            while not _ended(process):
                control.check()
                done = progress_of(_tail(program.log))
                if done is not None and best < done <= 1.0:
                    best = done
                    control.progress(done)
        finally:
            _end(process, control)
    text = read_log(program.log)
    if process.returncode != 0:
        raise failed(program.engine, f"ended with the exit code {process.returncode}", text)
    return text


def _start(program: Program, log: int, control: Control) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(  # noqa: S603 - an argument list, no shell
            list(program.argv),
            cwd=program.folder,
            env={**_inherited(), **program.variables},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=control.new_session,
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "an argument cannot be passed on"
        raise EngineNotConfigured(
            f"The program of the engine {program.engine} cannot be started: {reason}.",
            remedy="Correct its path in the engine's options, and see that it may be executed.",
            engine=program.engine,
        ) from None


def _inherited() -> dict[str, str]:
    """What a program has to know of its host; nothing else of our environment, which may hold secrets."""
    return {
        name: value
        for name, value in toolenv.clean_environment().items()
        if name in _INHERITED or name.startswith(_INHERITED_PREFIXES)
    }


def _ended(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(timeout=_LOOK_S)
    except subprocess.TimeoutExpired:
        return False
    return True


def _end(process: subprocess.Popen[bytes], control: Control) -> None:
    """End the process and, where it has a session of its own, all that it started."""
    for number, patience in ((signal.SIGTERM, _GRACE_S), (signal.SIGKILL, None)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if control.new_session:
                os.killpg(process.pid, number)
            elif process.poll() is None:
                process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=patience)


def _tail(log: Path) -> str:
    with log.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - 4096))
        return stream.read().decode(errors="replace")


def read_log(log: Path) -> str:
    """The log's text, at most its last MAX_LOG_BYTES."""
    with log.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - MAX_LOG_BYTES))
        return stream.read().decode(errors="replace")


def failed(engine: str, what: str, log: str) -> EngineFailed:
    """The error of a program that did not do its work, with its last words."""
    return EngineFailed(
        f"The program of the engine {engine} {what}.",
        remedy="Its last lines say why; the whole log lies in the engine's work folder.",
        engine=engine,
        last_lines=last_lines(log),
    )


def last_lines(log: str, count: int = 5) -> list[str]:
    """The last lines that say something. Paths lose their folders: those may be named after a patient."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", log) if line.strip()]
    return [re.sub(r"(/[^/\s\"']+)+/", "…/", line)[:200] for line in lines[-count:]]


@contextmanager
def work_folder(control: Control, engine: str) -> Iterator[Path]:
    """A new folder for the engine's files: kept under control.scratch, else removed afterwards.

    Raises EngineStorage for every OSError inside, such as a full disk.
    """
    try:
        if control.scratch is None:
            with TemporaryDirectory(prefix=f"fairlead-{engine}-", ignore_cleanup_errors=True) as name:
                yield Path(name)
        else:
            yield _new_folder(control.scratch.absolute(), engine)
    except OSError as error:
        raise storage_error(error) from error


def _new_folder(scratch: Path, engine: str) -> Path:
    number = 1
    while True:
        folder = scratch / f"{engine}-{number}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if not scratch.is_dir():
                raise
            number += 1  # never among the files of an earlier run: its log would be taken for this one's
            continue
        return folder
