"""Files to and from a host over one SFTP session: many blocks under way, written in order."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncssh

from fairlead.cases.jobs import HostCommandFailed, HostConnectionLost, HostDiskFull, HostPermission, OnBytes

BLOCK_BYTES = 255 * 1024  # OpenSSH closes a session that sends a packet of 256 KiB
REQUESTS = 32  # of BLOCK_BYTES under way at once in one copy
RENAMES = 64


class SftpFiles:
    """Copies over one SFTP session; see `jobs.Files`."""

    def __init__(self, host: str, sftp: asyncssh.SFTPClient) -> None:
        self._host = host
        self._sftp = sftp

    async def upload(self, source: Path, target: bytes, *, offset: int, size: int, on_bytes: OnBytes) -> None:
        """See `jobs.Files`."""
        with session_errors(self._host):
            async with self._sftp.open(target, "ab", block_size=0) as made:
                if (await made.stat()).size != offset:
                    await made.truncate(offset)
            async with self._sftp.open(target, "r+b", block_size=0) as file:
                with await asyncio.to_thread(source.open, "rb") as stream:
                    await _send(stream, file, offset, size, on_bytes)

    async def download(
        self, source: bytes, target: Path, *, offset: int, size: int, on_bytes: OnBytes
    ) -> None:
        """See `jobs.Files`."""
        with session_errors(self._host):
            async with self._sftp.open(source, "rb", block_size=0) as file:
                with await asyncio.to_thread(target.open, "ab") as stream:
                    stream.truncate(offset)
                    await _receive(file, stream, offset, size, on_bytes)

    async def rename(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        """See `jobs.Files`."""
        with session_errors(self._host):
            for start in range(0, len(pairs), RENAMES):
                batch = pairs[start : start + RENAMES]
                await asyncio.gather(*(self._sftp.posix_rename(old, new) for old, new in batch))


async def _send(stream: Any, file: Any, offset: int, size: int, on_bytes: OnBytes) -> None:
    """Write blocks in order, REQUESTS of them under way: the server takes them in that order."""
    under_way: list[tuple[asyncio.Task[Any], int]] = []
    stream.seek(offset)
    try:
        # A source that grows meanwhile would otherwise never end.
        while block := await asyncio.to_thread(stream.read, min(BLOCK_BYTES * REQUESTS, size - offset)):
            for start in range(0, len(block), BLOCK_BYTES):
                part = block[start : start + BLOCK_BYTES]
                under_way.append((asyncio.ensure_future(file.write(part, offset)), len(part)))
                offset += len(part)
                if len(under_way) >= REQUESTS:
                    await _first(under_way, on_bytes)
        while under_way:
            await _first(under_way, on_bytes)
    finally:
        for task, _ in under_way:
            task.cancel()
        await asyncio.gather(*(task for task, _ in under_way), return_exceptions=True)


async def _first(under_way: list[tuple[asyncio.Task[Any], int]], on_bytes: OnBytes) -> None:
    task, size = under_way[0]
    await task
    del under_way[0]
    on_bytes(size)


async def _receive(file: Any, stream: Any, offset: int, size: int, on_bytes: OnBytes) -> None:
    """Read blocks ahead, write them in order."""
    ahead: list[asyncio.Task[Any]] = []
    position = offset
    try:
        while position < size or ahead:
            while position < size and len(ahead) < REQUESTS:
                wanted = min(BLOCK_BYTES, size - position)
                ahead.append(asyncio.ensure_future(_exactly(file, position, wanted)))
                position += wanted
            block = await ahead[0]
            del ahead[0]
            await asyncio.to_thread(stream.write, block)
            on_bytes(len(block))
    finally:
        for task in ahead:
            task.cancel()
        await asyncio.gather(*ahead, return_exceptions=True)


async def _exactly(file: Any, offset: int, size: int) -> bytes:
    """`size` bytes; fewer only where the file has become shorter meanwhile."""
    data = b""
    while len(data) < size and (more := await file.read(size - len(data), offset + len(data))):
        data += more
    return data


def lost(name: str) -> HostConnectionLost:
    """The error for a connection that went away."""
    return HostConnectionLost(
        f"The connection to host {name} broke.", remedy="It is made again by itself.", host=name
    )


@contextmanager
def session_errors(name: str) -> Iterator[None]:
    """Turn what an open connection can meet into errors of ours."""
    try:
        yield
    except (asyncssh.SFTPNoSpaceOnFilesystem, asyncssh.SFTPQuotaExceeded) as error:
        raise _disk_full(name) from error
    except asyncssh.SFTPPermissionDenied as error:
        raise _permission(name) from error
    except (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection, asyncssh.DisconnectError) as error:
        raise lost(name) from error
    except (ConnectionError, asyncio.IncompleteReadError) as error:
        raise lost(name) from error
    except asyncssh.SFTPError as error:
        raise HostCommandFailed(
            f"Host {name} refuses a file operation: {error.reason}.",
            remedy="See the host's disk, quota and permissions.",
            host=name,
        ) from error


def _disk_full(name: str) -> HostDiskFull:
    """The error for a host's full disk."""
    return HostDiskFull(f"The disk of host {name} is full.", remedy="Make room there, then retry.", host=name)


def _permission(name: str) -> HostPermission:
    """The error for what a host's account may not do."""
    return HostPermission(
        f"The account on host {name} may not write or read there.",
        remedy="Check owner and mode of the host's `root` folder.",
        host=name,
    )
