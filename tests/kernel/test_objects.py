"""Object stores that refuse, fill up, vanish or die: what the caller is told, and what stands afterwards."""

import asyncio
import json
import shutil
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from fairlead.kernel.errors import FairleadError
from fairlead.kernel.objects import (
    ObjectMissing,
    ObjectsDenied,
    ObjectsFull,
    ObjectsReadOnly,
    ObjectsRefused,
    ObjectsThrottled,
    ObjectStore,
    ObjectsUnavailable,
    ObjectsUrlInvalid,
    open_objects,
)
from tests.services import free_port

SECRET = "hunter2hunter2"


def s3_at(endpoint: str, *, deadline_s: float = 30.0) -> ObjectStore:
    return open_objects(
        "s3://bucket/prefix",
        endpoint_url=endpoint,
        region="us-east-1",
        access_key_id="AKIATESTKEY",
        secret_access_key=SecretStr(SECRET),
        deadline_s=deadline_s,
    )


async def failure_of(store: ObjectStore, operation: str) -> FairleadError:
    """What `operation` raises; it must not tell a secret."""
    attempt = {
        "get": lambda: store.get("a/b"),
        "put": lambda: store.put("a/b", b"x"),
        "put_new": lambda: store.put_new("a/b", b"x"),
        "list": lambda: store.list("a"),
        "delete": lambda: store.delete("a/b"),
        "check": store.check,
    }[operation]
    with pytest.raises(FairleadError) as error:
        await attempt()
    told = json.dumps(error.value.problem())
    assert SECRET not in told
    assert "AKIATESTKEY" not in told
    assert store.url in told
    assert error.value.remedy
    return error.value


# --- opening --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    ["", "nonsense", "/a/path", "http://host/bucket", "gs://bucket", "s3://", "s3:///prefix", "file://", "file:///",
     "file://host/folder", "memory://name", f"s3://user:{SECRET}@bucket/prefix", f"s3://bucket/p?secret={SECRET}",
     "s3://bucket/p#x"],
)  # fmt: skip
def test_a_url_that_cannot_be_used_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ObjectsUrlInvalid) as error:
        open_objects(url)
    assert "file:///" in str(error.value.remedy)
    assert SECRET not in json.dumps(error.value.problem())


@pytest.mark.parametrize(
    "endpoint", ["nonsense", "ftp://host", f"http://user:{SECRET}@host", f"http://h/?{SECRET}"]
)
def test_an_endpoint_that_cannot_be_used_is_refused(endpoint: str) -> None:
    with pytest.raises(ObjectsUrlInvalid) as error:
        s3_at(endpoint)
    assert SECRET not in json.dumps(error.value.problem())


def test_half_a_key_pair_is_refused() -> None:
    with pytest.raises(ObjectsUrlInvalid):
        open_objects("s3://bucket", access_key_id="AKIATESTKEY")


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("memory://", "memory:///a/b"),
        ("s3://bucket", "s3://bucket/a/b"),
        ("s3://bucket/deep/prefix/", "s3://bucket/deep/prefix/a/b"),
    ],
)
def test_an_address_is_one_that_people_can_use(url: str, address: str) -> None:
    assert open_objects(url, region="us-east-1").address("a/b") == address


def test_the_address_in_a_folder_is_a_file_url(tmp_path: Path) -> None:
    folder = tmp_path / "with space"
    assert open_objects(folder.as_uri()).address("a/b") == (folder / "a" / "b").as_uri()


# --- a folder -------------------------------------------------------------------------------------


async def test_objects_in_a_folder_are_for_the_owner_only(tmp_path: Path) -> None:
    store = open_objects((tmp_path / "objects").as_uri())
    await store.put_new("a/b", b"x")
    paths = [tmp_path / "objects", tmp_path / "objects/a", tmp_path / "objects/a/b"]
    assert [oct(stat.S_IMODE(path.stat().st_mode)) for path in paths] == ["0o700", "0o700", "0o600"]
    assert list((tmp_path / "objects/a").iterdir()) == [paths[2]]  # nothing half-written is left


async def test_what_a_killed_writer_left_is_not_listed(tmp_path: Path) -> None:
    store = open_objects(tmp_path.as_uri())
    await store.put_new("a/v1", b"x")
    (tmp_path / "a" / "v2#8412").write_bytes(b"half an obj")
    assert [info.key for info in await store.list("a")] == ["a/v1"]


@pytest.mark.parametrize("operation", ["put", "put_new", "list", "check"])
async def test_a_folder_that_vanished_is_an_error_and_not_an_empty_store(
    tmp_path: Path, operation: str
) -> None:
    folder = tmp_path / "mounted"
    store = open_objects(folder.as_uri())
    folder.rmdir()
    assert isinstance(await failure_of(store, operation), ObjectsRefused)
    assert not folder.exists()


async def test_a_file_in_the_way_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "objects").write_text("a file")
    with pytest.raises(FairleadError) as error:
        open_objects((tmp_path / "objects").as_uri())
    assert str(tmp_path / "objects") in error.value.message


def in_a_process(script: str, *arguments: str) -> dict[str, Any]:
    """What `script` prints as JSON, run in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A temporary folder that other accounts can look into, as pytest's own cannot be."""
    folder = Path(tempfile.mkdtemp(prefix="fairlead-objects-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_a_read_only_folder_can_be_read_and_says_why_it_is_not_written(
    open_folder: Path, tmp_path: Path
) -> None:
    store = open_objects((open_folder / "objects").as_uri())
    asyncio.run(store.put_new("a/b", b"x"))
    folders = [open_folder / "objects", open_folder / "objects" / "a"]
    for path in folders:
        path.chmod(0o555)
    (open_folder / "objects/a/b").chmod(0o444)
    answer = in_a_process(
        """
        import asyncio, json, os, sys
        from fairlead.kernel.errors import FairleadError
        from fairlead.kernel.objects import open_objects
        store = open_objects(sys.argv[1])
        # Imports what Python imports only when used: another user may not read where it is installed.
        elsewhere = open_objects(sys.argv[2])
        asyncio.run(elsewhere.check())
        asyncio.run(elsewhere.put_new("a/b", b"x"))
        if os.geteuid() == 0:
            os.setresuid(65534, 65534, 65534)  # permissions do not bind root
        async def main():
            found = {"read": (await store.get("a/b")).decode()}
            calls = {"put_new": store.put_new("a/c", b"x"), "put": store.put("a/b", b"y")}
            for name, call in {**calls, "check": store.check()}.items():
                try:
                    await call
                except FairleadError as error:
                    found[name] = error.problem()
            return found
        print(json.dumps(asyncio.run(main())))
        """,
        store.url,
        tmp_path.as_uri(),
    )
    assert answer["read"] == "x"
    for operation in ("put_new", "put", "check"):
        assert answer[operation]["code"] == ObjectsReadOnly.code
        assert answer[operation]["retryable"] is False
        assert store.url in answer[operation]["detail"]
    assert asyncio.run(store.get("a/b")) == b"x"
    for path in folders:
        path.chmod(0o755)


def test_a_full_disk_is_told_and_leaves_nothing_behind(tmp_path: Path) -> None:
    url = (tmp_path / "objects").as_uri()
    answer = in_a_process(
        """
        import asyncio, json, resource, sys
        from fairlead.kernel.errors import FairleadError
        from fairlead.kernel.objects import open_objects
        store = open_objects(sys.argv[1])
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        async def main():
            await store.put_new("a/small", b"x" * 1000)
            try:
                await store.put_new("a/large", b"x" * 100_000)
            except FairleadError as error:
                return error.problem()
        print(json.dumps(asyncio.run(main())))
        """,
        url,
    )
    assert (answer["code"], answer["status"], answer["retryable"]) == (ObjectsFull.code, 507, False)
    assert [path.name for path in (tmp_path / "objects/a").iterdir()] == ["small"]


def test_a_killed_writer_leaves_the_old_object_or_the_new_one(tmp_path: Path) -> None:
    url = (tmp_path / "objects").as_uri()
    script = """
    import asyncio, itertools, sys
    from fairlead.kernel.objects import open_objects
    store = open_objects(sys.argv[1])
    async def main():
        for number in itertools.count(int(sys.argv[2])):
            data = str(number % 10).encode() * 2_000_000
            await asyncio.gather(store.put("a/latest", data), store.put_new(f"a/v{number:05d}", data))
            print(number, flush=True)
    asyncio.run(main())
    """
    for round_ in range(2):
        arguments = [sys.executable, "-c", textwrap.dedent(script), url, str(round_ * 1000)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.004 * round_)  # not a wait: the moment of the kill
            process.kill()
    store = open_objects(url)

    async def contents() -> list[bytes]:
        return [await store.get(info.key) for info in await store.list("a")]

    for content in asyncio.run(contents()):
        assert len(content) == 2_000_000
        assert len(set(content)) == 1


# --- S3 -------------------------------------------------------------------------------------------


@contextmanager
def s3_that_answers(*statuses: int, code: str = "SomeCode") -> Iterator[tuple[str, list[str]]]:
    """An endpoint that gives `statuses` in turn, the last one for ever, and the methods it was asked for."""
    called: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status = statuses[min(len(called), len(statuses) - 1)]
            called.append(self.command)
            body = f"<Error><Code>{code}</Code><AWSAccessKeyId>AKIATESTKEY</AWSAccessKeyId></Error>".encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", '"1"')
            self.send_header("Last-Modified", "Wed, 21 Oct 2026 07:28:00 GMT")
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_DELETE = do_POST = do_HEAD = answer  # noqa: N815

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", called
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("status", "operation", "kind"),
    [
        (400, "get", ObjectsRefused),
        (401, "list", ObjectsDenied),
        (403, "put_new", ObjectsDenied),
        (403, "check", ObjectsDenied),
        (404, "put_new", ObjectsRefused),  # the bucket
        (404, "list", ObjectsRefused),
        (405, "put", ObjectsRefused),
        (409, "get", ObjectsRefused),
        (507, "put_new", ObjectsFull),
    ],
)
async def test_an_answer_of_s3_is_told_in_our_terms_and_not_repeated(
    status: int, operation: str, kind: type[FairleadError]
) -> None:
    with s3_that_answers(status) as (endpoint, called):
        error = await failure_of(s3_at(endpoint), operation)
    assert type(error) is kind
    assert error.retryable is False
    assert f"{status} " in error.message
    assert len(called) == 1


async def test_a_missing_bucket_is_not_taken_for_a_missing_object() -> None:
    with s3_that_answers(404, code="NoSuchBucket") as (endpoint, _):
        assert isinstance(await failure_of(s3_at(endpoint), "get"), ObjectsRefused)
    with s3_that_answers(404, code="NoSuchKey") as (endpoint, _), pytest.raises(ObjectMissing):
        await s3_at(endpoint).get("a/b")


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (500, "InternalError", ObjectsUnavailable),
        (503, "SlowDown", ObjectsThrottled),
        (429, "X", ObjectsThrottled),
    ],
)
async def test_a_failing_s3_is_retried_a_few_times_where_that_is_safe(
    status: int, code: str, kind: type[FairleadError]
) -> None:
    with s3_that_answers(status, code=code) as (endpoint, called):
        error = await failure_of(s3_at(endpoint), "put_new")
        assert type(error) is kind
        assert error.retryable is True
        assert len(called) == 3
        await failure_of(s3_at(endpoint), "put")  # replacing again could undo another's put
        assert len(called) == 4


async def test_a_short_failure_is_not_noticed() -> None:
    with s3_that_answers(503, 200) as (endpoint, called):
        await s3_at(endpoint).put_new("a/b", b"x")
    assert called == ["PUT", "PUT"]


@pytest.mark.parametrize("operation", ["get", "put_new", "list", "check"])
async def test_an_s3_that_cannot_be_reached_fails_fast_and_says_where_it_was_sought(operation: str) -> None:
    endpoint = f"http://127.0.0.1:{free_port()}"
    started = time.monotonic()
    error = await failure_of(s3_at(endpoint), operation)
    assert time.monotonic() - started < 20  # an answer is waited for half a minute
    assert (type(error), error.status, error.retryable) == (ObjectsUnavailable, 503, True)
    assert endpoint in error.message


async def test_an_s3_that_never_answers_is_given_up_at_the_deadline() -> None:
    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    async with server:
        endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        error = await failure_of(s3_at(endpoint, deadline_s=0.2), "put_new")
    assert isinstance(error, ObjectsUnavailable)
    assert "no answer in time" in error.message
