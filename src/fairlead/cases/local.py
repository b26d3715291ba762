"""This machine as a host: the same scripts and copies as over SSH, without SSH."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from fairlead.cases.jobs import (
    Answer,
    HostCommandFailed,
    HostDiskFull,
    HostPermission,
    OnBytes,
)
from fairlead.kernel import resilience
from fairlead.kernel.resilience import Guard, Policy
from fairlead.kernel.toolenv import clean_environment

BLOCK_BYTES = 4 * 1024 * 1024
_POLICY = Policy(deadline_s=24 * 3600.0)
# What jobs see of our environment: enough to find programs, nothing that could be a secret.
_PASSED_ON = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "TZ",
    "LD_LIBRARY_PATH",
    "SLURM_CONF",
)


class LocalHost:
    """This machine; see `jobs.Host`."""

    def __init__(self, name: str, root: str) -> None:
        """`root` is an absolute folder, made where it is missing."""
        self.name = name
        self.root = root
        self._guard = Guard("cases.local", _POLICY)
        inherited = clean_environment()
        self._environment = {name: inherited[name] for name in _PASSED_ON if name in inherited}

    async def sh(self, script: str, *, deadline_s: float = 30.0) -> Answer:
        """Run a shell script; see `jobs.Host`."""

        async def attempt() -> Answer:
            async with resilience.deadline(deadline_s, f"host {self.name}"):
                return await self._sh(script)

        return await resilience.call(self._guard, attempt)

    async def _sh(self, script: str) -> Answer:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            "/bin/sh",
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            env=self._environment,
            start_new_session=True,  # a Ctrl-C at our terminal is not meant for it
        )
        try:
            stdout, stderr = await process.communicate(script.encode("utf-8", "surrogateescape"))
        except BaseException:
            if process.returncode is None:
                process.kill()
            await process.wait()
            raise
        return Answer(process.returncode or 0, stdout, stderr)

    @asynccontextmanager
    async def files(self) -> AsyncIterator["LocalFiles"]:
        """See `jobs.Host`."""
        yield LocalFiles(self.name)


class LocalFiles:
    """Copies within this machine; see `jobs.Files`."""

    def __init__(self, host: str) -> None:
        self._host = host

    async def upload(self, source: Path, target: bytes, *, offset: int, size: int, on_bytes: OnBytes) -> None:
        """See `jobs.Files`."""
        with _there(self._host):
            await _copy(source, Path(os.fsdecode(target)), offset, size, on_bytes)

    async def download(
        self, source: bytes, target: Path, *, offset: int, size: int, on_bytes: OnBytes
    ) -> None:
        """See `jobs.Files`."""
        await _copy(Path(os.fsdecode(source)), target, offset, size, on_bytes)

    async def rename(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        """See `jobs.Files`."""

        def rename_all() -> None:
            for old, new in pairs:
                Path(os.fsdecode(old)).replace(os.fsdecode(new))

        with _there(self._host):
            await asyncio.to_thread(rename_all)


async def _copy(source: Path, target: Path, offset: int, size: int, on_bytes: OnBytes) -> None:
    with await asyncio.to_thread(source.open, "rb") as reader, target.open("ab") as writer:
        reader.seek(offset)
        writer.truncate(offset)
        while block := await asyncio.to_thread(reader.read, min(BLOCK_BYTES, size - offset)):
            await asyncio.to_thread(writer.write, block)
            offset += len(block)
            on_bytes(len(block))


@contextmanager
def _there(name: str) -> Iterator[None]:
    """Turn what the file system says into the errors that a host over SSH raises."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise HostDiskFull(
                f"The disk of host {name} is full.", remedy="Make room there, then retry.", host=name
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise HostPermission(
                f"The account on host {name} may not write or read there.",
                remedy="Check owner and mode of the host's `root` folder.",
                host=name,
            ) from error
        raise HostCommandFailed(
            f"Host {name} refuses a file operation: {error.strerror}.",
            remedy="See the host's disk, quota and permissions.",
            host=name,
        ) from error
