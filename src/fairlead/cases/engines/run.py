"""A dose calculation as a process: `python -m fairlead.cases.engines.run REQUEST.json`.

For a host that shares nothing with us but files. `write_request` writes a folder that can be copied there,
the command calculates, `read_result` reads what was copied back. Names in a folder FOLDER, with the request
called NAME (several requests, for example one per beam, may lie in one folder and share its arrays):

    NAME.json                 the request; made last by write_request, names the arrays with their SHA-256
    ct-<hash>.npy             the CT in HU, [z, y, x]
    spots-<hash>.npz          spot positions and metersets, per beam and layer
    NAME.work/                what the engine writes for itself; kept
    NAME.result/beam-<n>.npy  dose of beam n of one fraction: float32 gray, [z, y, x] on the request's grid
    NAME.result/result.json   the completion marker, written last and at once: nothing is done without it
    NAME.result/error.json    the failure as a problem document; then there is no result.json

The command prints `progress 0.42` lines that never fall, and exits with 0 where result.json was written,
143 where SIGTERM or SIGINT ended it, 75 where it failed and may be repeated, and 1 where repeating is of no
use. It removes what an earlier run of it left in NAME.result and NAME.work before it begins; result.json
names the SHA-256 of the request that it answers, so that a result of another request is never taken for this
one's. No file holds the patient's identifier, unless the engine asks for the DICOM files (moqui): then
`dicom` of the request names them, relative to FOLDER.
"""

import shutil
import signal
import sys
import threading
import time
from dataclasses import replace
from os import getpgrp, getpid
from pathlib import Path

from fairlead.cases import engines
from fairlead.cases.engines.files import (
    Marker,
    Order,
    RequestInvalid,
    ResultIncomplete,
    read_request,
    read_result,
    result_folder,
    write_error,
    write_request,
    write_result,
)
from fairlead.cases.engines.port import Control, EngineCancelled, storage_error
from fairlead.kernel.errors import FairleadError

__all__ = [
    "EXIT_CANCELLED", "EXIT_FAILED", "EXIT_RETRYABLE", "Marker", "Order", "RequestInvalid",
    "ResultIncomplete", "main", "read_request", "read_result", "result_folder", "run", "write_request",
]  # fmt: skip

EXIT_FAILED, EXIT_RETRYABLE, EXIT_CANCELLED = 1, 75, 143
_OURS = ".fairlead-dose-work"  # without it a folder is not ours to remove


def run(file: Path, control: Control | None = None) -> Marker:
    """Calculate what `file` asks for and write the result; its marker.

    `control` defaults to the request's own deadline. Whatever goes wrong is written to error.json and
    raised: RequestInvalid, EngineStorage, and what the engine raises.
    """
    file = file.absolute()  # programs run in folders of their own
    work = file.with_suffix(".work")
    try:
        _tidy(result_folder(file), work)
        try:
            order, request = read_request(file)
            control = control or Control.within(order.deadline_s)
            control = replace(control, scratch=control.scratch or work)
            chosen = engines.engine(order.engine, order.options)
            started = time.monotonic()
            result = chosen.dose(request, control)
            return write_result(file, chosen, result, time.monotonic() - started)
        except FairleadError as error:
            write_error(file, error)
            raise
    except OSError as error:
        raise storage_error(error) from error


def _tidy(results: Path, work: Path) -> None:
    """Remove what an earlier run of ours left, and nothing else."""
    results.mkdir(exist_ok=True)
    for pattern in ("result.json", "error.json", "beam-*.npy", ".*.part"):
        for left in results.glob(pattern):
            left.unlink()
    if (work / _OURS).is_file() and not work.is_symlink():
        shutil.rmtree(work)
    work.mkdir(exist_ok=True)
    (work / _OURS).touch()


class _Report:
    """Progress lines that never fall, at most one per percent."""

    def __init__(self) -> None:
        """Nothing was printed yet."""
        self._last = -1

    def __call__(self, done: float) -> None:
        """Print `progress <done>` where it is a percent more than before."""
        percent = int(100 * min(max(done, 0.0), 1.0))
        if percent > self._last:
            self._last = percent
            sys.stdout.write(f"progress {percent / 100:.2f}\n")
            sys.stdout.flush()


def main(arguments: list[str] | None = None) -> int:
    """The command; its exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    if len(given) != 1:
        sys.stderr.write("usage: python -m fairlead.cases.engines.run REQUEST.json\n")
        return 2
    file, stop = Path(given[0]), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        order = Order.model_validate_json(file.read_bytes()) if file.is_file() else None
    except ValueError:
        order = None  # `run` says what is wrong with it
    if not file.is_file():
        sys.stderr.write(f"{file} does not exist\n")
        return EXIT_FAILED
    control = Control.within(
        order.deadline_s if order else None,
        cancelled=stop.is_set,
        progress=_Report(),
        # Who started us as the leader of a group ends the whole group: the engine has to be in it.
        new_session=getpgrp() != getpid(),
    )
    try:
        run(file, control)
    except EngineCancelled as error:
        sys.stderr.write(f"{error.code}: {error.message}\n")
        return EXIT_CANCELLED
    except FairleadError as error:
        sys.stderr.write(f"{error.code}: {error.message}\n")
        return EXIT_RETRYABLE if error.retryable else EXIT_FAILED
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
