"""File trees to a host and back: resumed, verified, renamed into place.

    await transfer.push(host, case_folder, f"{host.root}/cases/{run_id}/in", owner=run_id)

A file arrives as a part in `.fairlead-parts/` of the target folder, under a name made of digits and letters
whatever the file is called. What is there after an interruption is resumed if its SHA-256 equals that of
the same stretch of the source. Only when all parts are verified are they renamed, and the manifest is
written last: a folder with a manifest is complete.
"""

import asyncio
import errno
import hashlib
import json
import os
import posixpath
import shlex
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

from fairlead.cases.hostfolders import (
    ABSENT,
    OWNER,
    TransferSourceMissing,
    ask,
    checked_path,
    claim,
    diagnosed,
    hashes,
    quoted,
)
from fairlead.cases.jobs import Files, Host, HostCommandFailed, OnBytes
from fairlead.kernel import telemetry
from fairlead.kernel.errors import Conflict, FairleadError, Unavailable

T = TypeVar("T")
PARTS = ".fairlead-parts"
MANIFEST = ".fairlead-manifest.json"
OURS = (OWNER, PARTS, MANIFEST)
PARALLEL_FILES = 16
HASHERS = 2  # files hashed here at once
PATIENCE_S = 120.0  # without a byte of progress, before a transfer is given up
CORRUPT_MOST = 3  # times that a transfer may arrive damaged
PAUSE_S = 0.5


class TransferCorrupt(Unavailable):
    """What arrived is not what was sent; it was thrown away."""

    code = "cases.transfer_corrupt"


class TransferSourceChanged(Conflict):
    """The folder changed while it was transferred."""

    code, status, retryable = "cases.transfer_source_changed", 409, True


class TransferUnsafe(FairleadError):
    """The folder holds something that must not be transferred: a link, a device, an unusable name."""

    code, status, retryable = "cases.transfer_unsafe", 422, False


class DiskFull(FairleadError):
    """The disk of this machine has no room left."""

    code, status, retryable = "cases.disk_full", 507, False


class FileRefused(FairleadError):
    """A file of this machine cannot be read or written."""

    code, status, retryable = "cases.file_refused", 500, False


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One file of a manifest."""

    path: str = field(repr=False)  # relative, with slashes; undecodable bytes as surrogates
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """All files of a tree, sorted by path."""

    files: tuple[FileRecord, ...]

    @property
    def size_bytes(self) -> int:
        """Sum of the files."""
        return sum(file.size for file in self.files)

    def as_json(self) -> str:
        """ASCII, surrogates escaped."""
        return json.dumps({"files": [asdict(file) for file in self.files]})


@dataclass(frozen=True, slots=True)
class TransferProgress:
    """How far a transfer is; no number ever becomes smaller."""

    bytes_done: int
    bytes_total: int
    files_done: int
    files_total: int


OnTransfer = Callable[[TransferProgress], None]


class _Meter:
    """Counts towards the total; after an interruption it waits at its mark instead of running back."""

    def __init__(self, sizes: Mapping[str, int], on_progress: OnTransfer | None) -> None:
        self._sizes = sizes
        self._total = sum(sizes.values())
        self._on_progress = on_progress
        self._arrived: dict[str, int] = {}
        self._mark = (-1, 0)
        self.moved = 0  # bytes that really crossed, in all rounds

    def arrived(self, path: str, size: int) -> None:
        """`size` bytes of the file are there."""
        self._arrived[path] = min(size, self._sizes[path])
        done = sum(self._arrived.values())
        files = sum(1 for name, there in self._arrived.items() if there == self._sizes[name])
        mark = (max(self._mark[0], done), max(self._mark[1], files))
        if mark != self._mark and self._on_progress is not None:
            self._on_progress(TransferProgress(mark[0], self._total, mark[1], len(self._sizes)))
        self._mark = mark

    def size(self, path: str) -> int:
        """Of the file, when the transfer began."""
        return self._sizes[path]

    def counter(self, path: str, offset: int) -> OnBytes:
        """A callback that counts bytes of one file from `offset` on."""
        self.arrived(path, offset)
        there = offset

        def count(size: int) -> None:
            nonlocal there
            there += size
            self.moved += size
            self.arrived(path, there)

        return count


def _part(path: str) -> str:
    return f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:40]}.part"


def _fault(path: str, why: str) -> TransferUnsafe:
    shown = path.encode("utf-8", "surrogateescape").decode("ascii", "backslashreplace")
    return TransferUnsafe(f"{shown!r}: {why}.", remedy="Remove it, or have the sender write it again.")


def survey(source: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change (ns) of all files below `source` by relative path.

    Raises TransferUnsafe, TransferSourceMissing.
    """
    if source.is_symlink() or not source.is_dir():
        raise TransferSourceMissing("The folder to transfer does not exist.", remedy="Check its path.")
    found: dict[str, tuple[int, int]] = {}
    folders = [source]
    while folders:
        folder = folders.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                path = os.path.relpath(entry.path, source)
                if folder == source and entry.name in OURS:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append(Path(entry.path))
                elif entry.is_file(follow_symlinks=False):
                    status = entry.stat(follow_symlinks=False)
                    found[path] = (status.st_size, status.st_mtime_ns)
                else:
                    raise _fault(path, "neither a file nor a folder")
    return dict(sorted(found.items()))


def sha256_of(path: Path, size: int | None = None) -> str:
    """SHA-256 of a file, or of its first `size` bytes."""
    digest = hashlib.sha256()
    left = size
    with path.open("rb") as stream:
        while block := stream.read(1024 * 1024 if left is None else min(left, 1024 * 1024)):
            digest.update(block)
            if left is not None:
                left -= len(block)
    return digest.hexdigest()


@contextmanager
def _here() -> Iterator[None]:
    """Turn what this machine's file system says into errors of ours, without a path of the case."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(remedy="Make room on this machine, then retry.") from error
        raise FileRefused(
            f"A file of this machine cannot be read or written: {error.strerror}.",
            remedy="Check owner and mode of the case's folder and of the data folder.",
        ) from error


async def _persistently(host: Host, meter: _Meter, attempt: Callable[[], Awaitable[T]]) -> T:
    """`attempt` again and again through lost connections, as long as bytes still move."""
    clock = asyncio.get_running_loop().time
    since, moved, corrupt = clock(), 0, 0
    while True:
        try:
            return await attempt()
        except Unavailable as error:
            corrupt += isinstance(error, TransferCorrupt)
            if corrupt >= CORRUPT_MOST:
                raise
            if meter.moved != moved:
                since, moved = clock(), meter.moved
            elif clock() - since > PATIENCE_S:
                raise
            telemetry.log.warning("transfer.interrupted", host=host.name, code=error.code)
            telemetry.count("fairlead_transfer_interruptions_total")
        await asyncio.sleep(PAUSE_S)


async def _each(items: Iterable[str], act: Callable[[str], Awaitable[None]]) -> None:
    """`act` on every item, PARALLEL_FILES at once; the first error ends all."""
    waiting = iter(items)

    async def work() -> None:
        for item in waiting:
            await act(item)

    workers = [asyncio.ensure_future(work()) for _ in range(PARALLEL_FILES)]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


class _Hashing:
    """Hashes of local files, made while other work goes on."""

    def __init__(self, root: Path, sizes: Mapping[str, int]) -> None:
        self._root = root
        self._room = asyncio.Semaphore(HASHERS)
        self._tasks = {path: asyncio.ensure_future(self._hash(path, size)) for path, size in sizes.items()}

    async def _hash(self, path: str, size: int) -> str:
        async with self._room:
            return await asyncio.to_thread(sha256_of, self._root / path, size)

    async def of(self, path: str) -> str:
        return await self._tasks[path]

    def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()


# Push ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Push:
    host: Host
    source: Path
    target: str
    surveyed: Mapping[str, tuple[int, int]]
    sizes: Mapping[str, int]
    hashing: _Hashing
    meter: _Meter

    def part(self, path: str) -> str:
        return f"{PARTS}/{_part(path)}"

    def remote(self, path: str) -> bytes:
        return os.fsencode(f"{self.target}/{path}")


async def push(
    host: Host, source: Path, target: str, *, owner: str, on_progress: OnTransfer | None = None
) -> Manifest:
    """Bring all files below `source` to the folder `target` of the host, and mark that as `owner`'s.

    May be repeated; files that are there already are only compared. Raises TransferUnsafe,
    TransferSourceChanged, TransferCorrupt, FolderNotOurs, DiskFull, FileRefused and Host… errors.
    """
    target = checked_path(host, target)
    with _here():
        surveyed = await asyncio.to_thread(survey, source)
        sizes = {path: size for path, (size, _) in surveyed.items()}
        hashing = _Hashing(source, sizes)
        job = _Push(host, source, target, surveyed, sizes, hashing, _Meter(sizes, on_progress))
        try:
            await claim(host, target, owner)
            return await _persistently(host, job.meter, lambda: _push_round(job))
        except HostCommandFailed as error:
            raise await diagnosed(host, target, error) from error
        finally:
            hashing.close()
            _count_bytes(job.meter, "to_host")


def _count_bytes(meter: _Meter, direction: str) -> None:
    telemetry.count("fairlead_case_transfer_bytes_total", meter.moved, {"direction": direction})


async def _push_round(job: _Push) -> Manifest:
    there = await _prepare_target(job)
    missing = [path for path in job.sizes if not await _is_there(job, path, there.get(path))]
    for path in job.sizes.keys() - set(missing):
        job.meter.arrived(path, job.sizes[path])

    async def upload(path: str) -> None:
        offset = await _usable(job, path, there.get(job.part(path)))
        counter = job.meter.counter(path, offset)
        if offset < job.sizes[path] or not offset:
            source, part, size = job.source / path, job.remote(job.part(path)), job.sizes[path]
            await files.upload(source, part, offset=offset, size=size, on_bytes=counter)

    async with job.host.files() as files:
        await _each(missing, upload)
        if await asyncio.to_thread(survey, job.source) != job.surveyed:
            raise TransferSourceChanged(remedy="Wait until the sender has written all of it, then retry.")
        await _verify_parts(job, missing)
        await files.rename([(job.remote(job.part(path)), job.remote(path)) for path in missing])
    records = [FileRecord(path, size, await job.hashing.of(path)) for path, size in job.sizes.items()]
    manifest = Manifest(tuple(records))
    await _write_manifest(job, manifest)
    return manifest


async def _prepare_target(job: _Push) -> dict[str, tuple[int, str]]:
    folders = sorted({posixpath.dirname(path) for path in job.sizes} - {""})
    script = f"cd -- {shlex.quote(job.target)} && rm -f {MANIFEST} || exit 1\n"
    script += f"mkdir -p -- {quoted(f'./{folder}' for folder in [PARTS, *folders])} || exit 1\n"
    await ask(job.host, script)
    return await hashes(job.host, job.target, [*job.sizes, *(job.part(path) for path in job.sizes)])


async def _is_there(job: _Push, path: str, found: tuple[int, str] | None) -> bool:
    return found is not None and found[0] == job.sizes[path] and found[1] == await job.hashing.of(path)


async def _usable(job: _Push, path: str, found: tuple[int, str] | None) -> int:
    """How many bytes of the part on the host are the beginning of the file."""
    if found is None or not 0 < found[0] <= job.sizes[path]:
        return 0
    beginning = await asyncio.to_thread(sha256_of, job.source / path, found[0])
    return found[0] if beginning == found[1] else 0


async def _verify_parts(job: _Push, paths: Sequence[str]) -> None:
    there = await hashes(job.host, job.target, [job.part(path) for path in paths])
    wrong = [path for path in paths if not await _is_there(job, path, there.get(job.part(path)))]
    if not wrong:
        return
    await ask(job.host, f"cd -- {shlex.quote(job.target)} && rm -f -- {quoted(map(job.part, wrong))}")
    raise TransferCorrupt(
        f"{len(wrong)} of {len(paths)} files arrived on host {job.host.name} with another content.",
        remedy="See that host's disk and memory.",
        host=job.host.name,
    )


async def _write_manifest(job: _Push, manifest: Manifest) -> None:
    text = shlex.quote(manifest.as_json())
    script = f"cd -- {shlex.quote(job.target)} && rm -rf -- ./{PARTS} || exit 1\n"
    script += f"printf %s {text} >{MANIFEST}.tmp && mv -f {MANIFEST}.tmp {MANIFEST}"
    await ask(job.host, script)


# Pull ----------------------------------------------------------------------------------------------------


async def pull(
    host: Host,
    source: str,
    target: Path,
    *,
    wanted: Callable[[str], bool] | None = None,
    on_progress: OnTransfer | None = None,
) -> Manifest:
    """Bring the files below the host's folder `source` (those that `wanted` names) into `target`.

    `target` is made where it is missing; files that are there already are only compared. Raises
    TransferUnsafe, TransferSourceMissing, TransferCorrupt, DiskFull, FileRefused and Host… errors.
    """
    source = checked_path(host, source)
    sizes = await _survey_there(host, source, wanted)
    meter = _Meter(sizes, on_progress)
    with _here():
        await asyncio.to_thread(_make_folders, target, sizes)
        try:
            return await _persistently(host, meter, lambda: _pull_round(host, source, target, sizes, meter))
        finally:
            _count_bytes(meter, "from_host")


async def _survey_there(host: Host, source: str, wanted: Callable[[str], bool] | None) -> dict[str, int]:
    script = f"cd -- {shlex.quote(source)} 2>/dev/null || exit {ABSENT}\n"
    script += "find . -mindepth 1 ! -type d -printf '%y %s %P\\0'"
    sizes: dict[str, int] = {}
    for record in filter(None, (await ask(host, script)).split(b"\0")):
        kind, size, name = record.split(b" ", 2)
        path = os.fsdecode(name)
        if path.split("/", 1)[0] in OURS or (wanted is not None and not wanted(path)):
            continue
        if kind != b"f" or path.startswith("/") or ".." in path.split("/"):
            raise _fault(path, "neither a file nor a folder")
        sizes[path] = int(size)
    return dict(sorted(sizes.items()))


def _make_folders(target: Path, paths: Iterable[str]) -> None:
    (target / PARTS).mkdir(parents=True, exist_ok=True)
    for folder in {posixpath.dirname(path) for path in paths}:
        (target / folder).mkdir(parents=True, exist_ok=True)


async def _pull_round(
    host: Host, source: str, target: Path, sizes: Mapping[str, int], meter: _Meter
) -> Manifest:
    # Hashing there and copying go on at the same time, over two sessions.
    hashing = asyncio.ensure_future(hashes(host, source, list(sizes)))
    try:
        async with host.files() as files:
            await _each(sizes, lambda path: _download(host, files, source, target, path, meter))
        there = await hashing
        return await asyncio.to_thread(_finish_pull, host.name, target, there, sizes)
    finally:
        hashing.cancel()
        await asyncio.gather(hashing, return_exceptions=True)


async def _download(host: Host, files: Files, source: str, target: Path, path: str, meter: _Meter) -> None:
    part = target / PARTS / _part(path)
    here = await asyncio.to_thread(_part_size, part, target / path)
    offset = await _usable_here(host, f"{source}/{path}", part, here) if 0 < here <= meter.size(path) else 0
    there, size, counter = os.fsencode(f"{source}/{path}"), meter.size(path), meter.counter(path, offset)
    await files.download(there, part, offset=offset, size=size, on_bytes=counter)


def _part_size(part: Path, final: Path) -> int:
    """Bytes that are here already, from this round or an earlier transfer."""
    if not part.exists() and final.is_file() and not final.is_symlink():
        final.replace(part)  # compared like any part, and renamed back
    return part.stat().st_size if part.exists() else 0


async def _usable_here(host: Host, path: str, part: Path, size: int) -> int:
    """`size`, that of the local part, where it is the beginning of the host's file; else 0."""
    script = f"head -c {size} -- {shlex.quote(path)} | sha256sum"
    there = (await ask(host, script)).split(b" ", 1)[0].decode()
    return size if there == await asyncio.to_thread(sha256_of, part) else 0


def _finish_pull(
    name: str, target: Path, there: Mapping[str, tuple[int, str]], sizes: Mapping[str, int]
) -> Manifest:
    """Verify all parts, then rename them. Raises TransferCorrupt."""
    records, wrong = [], 0
    for path in sizes:
        part = target / PARTS / _part(path)
        record = FileRecord(path, part.stat().st_size, sha256_of(part))
        if there.get(path) != (record.size, record.sha256):
            part.unlink()
            wrong += 1
        records.append(record)
    if wrong:
        raise TransferCorrupt(
            f"{wrong} of {len(sizes)} files arrived from host {name} with another content.",
            remedy="Make sure that the job has ended before its results are fetched.",
            host=name,
        )
    for path in sizes:
        part = target / PARTS / _part(path)
        descriptor = os.open(part, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        part.replace(target / path)
    (target / PARTS).rmdir()
    return Manifest(tuple(records))
