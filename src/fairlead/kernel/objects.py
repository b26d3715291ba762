"""Objects by key in a folder, in memory or in S3: atomic, create-only where asked, bounded in time.

What holds on all three: `put_new` writes a whole object or nothing and exactly one of many racing
writers wins; `list` is ordered by key and sees every finished put. A put in a folder survives a power
cut: the file and the directory that names it are synced before it returns.
"""

import asyncio
import errno
import os
import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import obstore
from obstore import exceptions, store
from pydantic import SecretStr

from fairlead.kernel.errors import (
    Conflict,
    FairleadError,
    InvalidInput,
    NotFound,
    SettingsInvalid,
    Unavailable,
)
from fairlead.kernel.resilience import DeadlineExceeded, Guard, Policy, Throttled, call

T = TypeVar("T")

MAX_KEY_CHARACTERS = 900  # S3 allows 1,024 bytes, the store's own prefix included
CONNECT_TIMEOUT_S = 2.0
# One path segment. `#` is left out on purpose: `name#digits` is a write in progress (see `_write`).
_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.=+@-]*")


class ObjectExists(Conflict):
    """There is already an object with this key."""

    code = "objects.exists"


class ObjectMissing(NotFound):
    """There is no object with this key."""

    code = "objects.missing"


class ObjectKeyInvalid(InvalidInput):
    """The key of an object has a form that cannot be used."""

    code = "objects.key_invalid"


class ObjectsUrlInvalid(SettingsInvalid):
    """The object store's URL has a form that cannot be used."""

    code = "objects.url_invalid"


class ObjectsUnavailable(Unavailable):
    """The object store does not answer."""

    code = "objects.unavailable"


class ObjectsThrottled(Throttled):
    """The object store asks for fewer requests."""

    code = "objects.throttled"


class ObjectsDenied(FairleadError):
    """The object store refuses these credentials."""

    code, status, retryable = "objects.denied", 502, False


class ObjectsReadOnly(FairleadError):
    """The object store cannot be written to."""

    code, status, retryable = "objects.read_only", 503, False


class ObjectsFull(FairleadError):
    """The object store has no room left."""

    code, status, retryable = "objects.full", 507, False


class ObjectsRefused(FairleadError):
    """The object store refuses the request."""

    code, status, retryable = "objects.refused", 502, False


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    """What a listing tells about one object."""

    key: str
    size_bytes: int
    modified: datetime


class ObjectStore:
    """An open store. `url` is printable: it never holds credentials."""

    def __init__(
        self,
        backend: store.ObjectStore,
        *,
        url: str,
        deadline_s: float,
        folder: Path | None = None,
        endpoint: str | None = None,
    ) -> None:
        """Use `open_objects`. `folder` is set for a store on disk; `deadline_s` bounds every attempt."""
        self._backend = backend
        self._folder = folder
        self._at = f" at {endpoint}" if endpoint else ""
        self._guard = Guard("objects", Policy(deadline_s=deadline_s, attempts=3, wait_max_s=2.0))
        self.url = url

    def address(self, key: str) -> str:
        """Where the object is, for people: `s3://bucket/prefix/key`, `file:///folder/key`."""
        return f"{self.url}/{_checked(key)}"

    async def put_new(self, key: str, data: bytes) -> None:
        """Create the object; exactly one of many writers of one key succeeds.

        An answer lost on the way is retried, which can turn an own success into ObjectExists: put a
        nonce into `data` and compare. Raises ObjectExists and what every call raises (see `check`).
        """
        await self._write(key, data, replace=False)

    async def put(self, key: str, data: bytes) -> None:
        """Create or replace the object: readers see the old content or the new, never a mixture."""
        await self._write(key, data, replace=True)

    async def get(self, key: str, *, first_bytes: int | None = None) -> bytes:
        """The object's content, or (where it is not empty) only its first bytes. Raises ObjectMissing."""
        _checked(key)

        async def attempt() -> bytes:
            if first_bytes is not None:
                part = await obstore.get_range_async(self._backend, key, start=0, end=first_bytes)
                return bytes(part)
            answer = await obstore.get_async(self._backend, key)
            return bytes(await answer.bytes_async())

        return await self._call("get", key, attempt)

    async def list(self, prefix: str, *, start_after: str | None = None) -> list[ObjectInfo]:
        """Objects below the folder `prefix`, by key, those up to and including `start_after` left out."""
        _checked(prefix)

        async def attempt() -> list[ObjectInfo]:
            if self._folder is not None and not self._folder.is_dir():
                raise FileNotFoundError(errno.ENOENT, "the folder is gone")
            found = [
                ObjectInfo(key=meta["path"], size_bytes=meta["size"], modified=meta["last_modified"])
                async for batch in obstore.list(self._backend, prefix, offset=start_after)
                for meta in batch
            ]
            return sorted(found, key=lambda info: info.key)  # a directory has no order of its own

        return await self._call("list", prefix, attempt)

    async def delete(self, key: str) -> None:
        """Remove the object; one that is not there is no error."""
        _checked(key)

        async def attempt() -> None:
            try:
                await obstore.delete_async(self._backend, key)
            except FileNotFoundError:
                return

        await self._call("delete", key, attempt)

    async def check(self) -> None:
        """Return if the store answers, for health checks.

        Raises ObjectsUnavailable (retryable), ObjectsDenied, ObjectsReadOnly, ObjectsFull, ObjectsRefused.
        """

        async def attempt() -> None:
            if self._folder is not None and not os.access(self._folder, os.R_OK | os.W_OK | os.X_OK):
                raise OSError(errno.EACCES if self._folder.exists() else errno.ENOENT, "no access")
            async for _ in obstore.list(self._backend, "check", chunk_size=1):
                break

        await self._call("check", "", attempt)

    async def _write(self, key: str, data: bytes, *, replace: bool) -> None:
        _checked(key)
        folder = self._folder

        async def attempt() -> None:
            if folder is not None:
                await asyncio.to_thread(_write, folder, key, data, replace=replace)
            else:
                mode: Any = "overwrite" if replace else "create"
                # Multipart uploads only compare at their end and leave parts behind when they die.
                await obstore.put_async(self._backend, key, data, mode=mode, use_multipart=False)

        await self._call("put" if replace else "put_new", key, attempt)

    def _explained(self, operation: str, key: str, error: Exception) -> FairleadError:
        return _explain(self.url, self._at, operation, key, error, on_disk=self._folder is not None)

    async def _call(self, operation: str, key: str, attempt: Callable[[], Awaitable[T]]) -> T:
        async def explained() -> T:
            try:
                return await attempt()
            except (OSError, exceptions.BaseError) as error:
                raise self._explained(operation, key, error) from error

        try:
            return await call(self._guard, explained, safe_to_retry=operation != "put")
        except DeadlineExceeded as error:
            raise self._explained(operation, key, error) from error


def _explain(
    url: str, at: str, operation: str, key: str, error: Exception, *, on_disk: bool
) -> FairleadError:
    """The failure in our terms: which store, which key, what to do."""
    place = f"{url}/{key}" if key else url
    kind = _kind(error, on_disk=on_disk)
    if kind is ObjectExists and operation == "put_new":
        return ObjectExists(f"{place} exists already.", key=key)
    if kind is ObjectMissing and operation == "get":
        return ObjectMissing(f"{place} does not exist.", key=key)
    if kind in (ObjectExists, ObjectMissing):  # writing and listing can only miss the store itself
        kind = ObjectsRefused
    message, remedy = _WORDS[kind]
    return kind(
        f"{message.format(store=url + at)} ({operation}: {_reason(error)})",
        remedy=remedy,
        store=url,
        key=key,
        operation=operation,
    )


_WORDS: dict[type[FairleadError], tuple[str, str]] = {
    ObjectsUnavailable: (
        "The object store {store} is not available.",
        "Check that it runs and can be reached from here; nothing is lost by trying again.",
    ),
    ObjectsThrottled: (
        "The object store {store} asks for fewer requests.",
        "Try again in a while.",
    ),
    ObjectsDenied: (
        "The object store {store} refuses these credentials.",
        "Check FAIRLEAD_OBJECTS__ACCESS_KEY_ID and its secret, or the policy of the role.",
    ),
    ObjectsReadOnly: (
        "The object store {store} cannot be written to.",
        "Give the user that runs Fairlead the right to write there, or choose another FAIRLEAD_OBJECTS__URL.",
    ),
    ObjectsFull: (
        "The object store {store} has no room left.",
        "Free space or raise the quota; nothing was changed.",
    ),
    ObjectsRefused: (
        "The object store {store} refuses the request.",
        "Check that the bucket or folder exists and that FAIRLEAD_OBJECTS__URL and the region are right.",
    ),
}

_ERRNO_KINDS: dict[int, type[FairleadError]] = {
    errno.EEXIST: ObjectExists,
    errno.ENOENT: ObjectMissing,
    errno.ENOTDIR: ObjectsRefused,
    errno.EISDIR: ObjectsRefused,
    errno.ENAMETOOLONG: ObjectsRefused,
    errno.EROFS: ObjectsReadOnly,
    errno.EACCES: ObjectsReadOnly,
    errno.EPERM: ObjectsReadOnly,
    errno.ENOSPC: ObjectsFull,
    errno.EDQUOT: ObjectsFull,
    errno.EFBIG: ObjectsFull,
}
_STATUS_KINDS: dict[int, type[FairleadError]] = {
    401: ObjectsDenied,
    403: ObjectsDenied,
    429: ObjectsThrottled,
    507: ObjectsFull,
}


def _kind(error: Exception, *, on_disk: bool) -> type[FairleadError]:
    if isinstance(error, exceptions.AlreadyExistsError):
        return ObjectExists
    if isinstance(error, FileNotFoundError):
        return ObjectsRefused if "NoSuchBucket" in str(error) else ObjectMissing
    if isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError):
        return ObjectsReadOnly if on_disk else ObjectsDenied
    if isinstance(error, exceptions.NotSupportedError | exceptions.InvalidPathError):
        return ObjectsRefused
    if isinstance(error, DeadlineExceeded):
        return ObjectsUnavailable
    number = error.errno if isinstance(error, OSError) else _number(r"os error (\d+)", error)
    if number in _ERRNO_KINDS:
        return _ERRNO_KINDS[number]
    if "<Code>SlowDown</Code>" in str(error):
        return ObjectsThrottled
    status = _number(r"\bstatus(?: code)?:? (\d{3})", error)
    if status in _STATUS_KINDS:
        return _STATUS_KINDS[status]
    return ObjectsRefused if status is not None and 400 <= status < 500 else ObjectsUnavailable


def _number(pattern: str, error: Exception) -> int | None:
    found = re.search(pattern, str(error))
    return int(found[1]) if found else None


def _reason(error: Exception) -> str:
    """A few words on the cause. Never the whole text: S3 answers a bad signature with the key's id."""
    if isinstance(error, DeadlineExceeded):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error)
    if status := re.search(r"status code: (\d{3} [A-Za-z ]+)", text):
        code = re.search(r"<Code>(\w{1,60})</Code>", text)
        return f"{status[1].strip()}, {code[1]}" if code else status[1].strip()
    if kind := re.search(r"\bkind: (Connect|Request|Timeout|Interrupted|Decode)\b", text):
        return {"Connect": "cannot connect", "Timeout": "no answer in time"}.get(kind[1], "connection lost")
    return text.split("\n", 1)[0].rsplit(" - ", 1)[-1][:200]


def _checked(key: str) -> str:
    segments = key.split("/")
    if len(key) > MAX_KEY_CHARACTERS or not all(_SEGMENT.fullmatch(segment) for segment in segments):
        raise ObjectKeyInvalid(
            f"{key[:200]!r} cannot be the key of an object.",
            remedy="Use segments of letters, digits and _.=+@- joined by single slashes.",
        )
    return key


def _write(folder: Path, key: str, data: bytes, *, replace: bool) -> None:
    """Write `data` to disk for good, whole or not at all. Raises OSError."""
    path = folder / key
    _make_folders(path.parent, folder)
    # obstore's own put does not sync; its listing skips `name#digits`, so a dead writer's rest stays hidden.
    part = path.with_name(f"{path.name}#{secrets.randbits(63)}")
    try:
        with open(part, "xb", opener=partial(os.open, mode=0o600)) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            part.replace(path)
        else:
            path.hardlink_to(part)  # fails where the name is taken: the comparison and the write are one act
        _sync(path.parent)
    finally:
        part.unlink(missing_ok=True)


def _make_folders(folder: Path, root: Path) -> None:
    # Not the root: where a disk is not mounted, an empty store must not spring up in its place.
    below = [each for each in (folder, *folder.parents) if each != root and each.is_relative_to(root)]
    for each in reversed([each for each in below if not each.exists()]):
        each.mkdir(mode=0o700, exist_ok=True)
        _sync(each.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_objects(
    url: str,
    *,
    endpoint_url: str | None = None,
    region: str | None = None,
    access_key_id: str | None = None,
    secret_access_key: SecretStr | None = None,
    deadline_s: float = 30.0,
) -> ObjectStore:
    """Open the store at `memory://`, `file:///folder` or `s3://bucket/prefix`; S3 is not called yet.

    Without an access key the usual AWS sources are asked: environment, web identity, container, instance.
    Raises ObjectsUrlInvalid; for a folder that cannot be made ObjectsReadOnly, ObjectsFull, ObjectsRefused.
    """
    parts = urlsplit(url)
    if parts.query or parts.fragment or parts.username or parts.password:
        raise _invalid("An object store's URL has no user, password, query or fragment.")
    if parts.scheme == "memory" and not parts.netloc and parts.path in {"", "/"}:
        return ObjectStore(store.MemoryStore(), url="memory://", deadline_s=deadline_s)
    if parts.scheme == "file" and parts.netloc in {"", "localhost"} and parts.path.strip("/"):
        return _open_folder(Path(unquote(parts.path)), deadline_s)
    if parts.scheme == "s3" and parts.netloc:
        if (access_key_id is None) != (secret_access_key is None):
            raise _invalid("An access key needs its secret, and a secret its access key.")
        config = _s3_config(endpoint_url, region, access_key_id, secret_access_key)
        return _open_s3(parts.netloc, parts.path.strip("/"), config, deadline_s)
    raise _invalid("The object store's URL has a form that cannot be used.")


def _invalid(message: str) -> ObjectsUrlInvalid:
    # The URL itself stays out of the message: it may hold a password.
    return ObjectsUrlInvalid(
        message,
        remedy="Set FAIRLEAD_OBJECTS__URL to file:///absolute/folder, s3://bucket/prefix or memory://.",
    )


def _open_folder(folder: Path, deadline_s: float) -> ObjectStore:
    url = folder.as_uri().rstrip("/")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return ObjectStore(store.LocalStore(folder), url=url, folder=folder, deadline_s=deadline_s)
    except OSError as error:
        raise _explain(url, "", "open", "", error, on_disk=True) from error


def _s3_config(
    endpoint_url: str | None, region: str | None, access_key_id: str | None, secret: SecretStr | None
) -> dict[str, Any]:
    config: dict[str, Any] = {}
    if endpoint_url is not None:
        parts = urlsplit(endpoint_url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.query:
            raise _invalid("The object store's endpoint is not a plain http or https URL.")
        # A host that is not AWS's seldom answers to bucket.host.
        config |= {"endpoint": endpoint_url.rstrip("/"), "virtual_hosted_style_request": False}
    if region is not None:
        config["region"] = region
    if access_key_id is not None and secret is not None:
        config |= {"access_key_id": access_key_id, "secret_access_key": secret.get_secret_value()}
    return config


def _open_s3(bucket: str, prefix: str, config: dict[str, Any], deadline_s: float) -> ObjectStore:
    url = f"s3://{bucket}/{prefix}" if prefix else f"s3://{bucket}"
    client: Any = {
        "allow_http": str(config.get("endpoint", "")).startswith("http://"),
        "connect_timeout": timedelta(seconds=CONNECT_TIMEOUT_S),
        "timeout": timedelta(seconds=deadline_s),
    }
    # Retries are resilience's: the library's own would multiply with them and hide from its metrics.
    backend = store.S3Store(
        bucket, prefix=prefix or None, client_options=client, retry_config={"max_retries": 0}, **config
    )
    return ObjectStore(backend, url=url, deadline_s=deadline_s, endpoint=config.get("endpoint"))
