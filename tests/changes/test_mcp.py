"""The gateway: real server processes over real pipes and HTTP, in front of a real sandbox."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from fairlead.changes import mcp
from fairlead.changes.awsapi import answers, servers
from fairlead.changes.awsapi.commands import command
from fairlead.kernel import telemetry, toolenv
from fairlead.kernel.db import open_database
from fairlead.kernel.errors import FairleadError
from fairlead.kernel.resilience import BreakerOpen, CallInTransaction, DeadlineExceeded
from tests.changes.aws_gateway import (
    FAKE,
    aws_settings,
    children,
    command_lines,
    failing_gateway,
    gateway_to,
)
from tests.sandbox_service import SandboxProcess, start_sandbox, toolenvs
from tests.services import free_port

pytestmark = pytest.mark.asyncio(loop_scope="module")

WHO = "aws sts get-caller-identity"


def until(condition: Callable[[], bool], *, deadline_s: float = 60.0) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "the condition never came true"
        time.sleep(0.02)


# Servers that fail.


def calls(folder: Path, pool: str) -> list[str]:
    return (folder / "mcp" / pool / "calls").read_text().splitlines()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def failing(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[mcp.Gateway, Path]]:
    folder = tmp_path_factory.mktemp("failing")
    async with failing_gateway(folder, readers=2) as gateway:
        await gateway.warm()
        yield gateway, folder


async def test_a_failure_that_the_protocol_calls_a_success_is_raised(
    failing: tuple[mcp.Gateway, Path],
) -> None:
    with pytest.raises(answers.AccessDenied, match="refused: AccessDenied"):
        await failing[0].read("aws fake --do=refuse:AccessDenied")


async def test_a_call_in_flight_when_its_server_dies_has_an_unknown_outcome_and_is_not_repeated(
    failing: tuple[mcp.Gateway, Path],
) -> None:
    gateway, folder = failing
    with pytest.raises(mcp.ServerDied) as died:
        await gateway.write("aws fake --do=die", safe_to_retry=False)
    assert not died.value.retryable
    assert calls(folder, "writer").count("aws fake --do=die") == 1
    assert (await gateway.write("aws fake --do=go", safe_to_retry=False))["did"] == "go"


async def test_a_call_with_a_client_token_survives_the_death_of_its_server(
    failing: tuple[mcp.Gateway, Path],
) -> None:
    gateway, folder = failing
    assert (await gateway.write("aws fake --do=die-once", safe_to_retry=True))["did"] == "die-once"
    assert calls(folder, "writer").count("aws fake --do=die-once") == 2


async def test_throttled_calls_are_repeated_alone_and_together(failing: tuple[mcp.Gateway, Path]) -> None:
    gateway, folder = failing
    outcomes = await gateway.read_many(
        ["aws fake --do=a", "aws fake --do=refuse-once:ThrottlingException", "aws fake --do=refuse:NotFound"]
    )
    did = [outcome["did"] for outcome in outcomes if isinstance(outcome, dict)]
    assert did == ["a", "refuse-once"]
    assert isinstance(outcomes[2], answers.ResourceNotFound)
    assert calls(folder, "reader").count("aws fake --do=a") == 1


@pytest.mark.parametrize("what", ["empty", "too-few"])
async def test_an_answer_without_content_is_an_unknown_outcome(
    failing: tuple[mcp.Gateway, Path], what: str
) -> None:
    with pytest.raises(answers.BadAnswer):
        await failing[0].write(f"aws fake --do={what}", safe_to_retry=False)


async def test_noise_on_the_servers_output_does_not_lose_the_answer(
    failing: tuple[mcp.Gateway, Path],
) -> None:
    assert (await failing[0].write("aws fake --do=garbage", safe_to_retry=False))["did"] == "garbage"


async def test_each_server_has_one_call_at_a_time_and_the_free_one_takes_the_next(
    failing: tuple[mcp.Gateway, Path], tmp_path: Path
) -> None:
    gateway, _ = failing
    await asyncio.to_thread(until, lambda: gateway.sessions()["reader"] == 2)
    held = asyncio.create_task(gateway.read(f"aws fake --do=gate:{tmp_path}/gate"))
    done = await asyncio.gather(*(gateway.read(f"aws fake --do={n}") for n in "abcd"))
    assert not held.done()
    (tmp_path / "gate").touch()
    assert {answer["pid"] for answer in done} == {done[0]["pid"]}
    assert (await held)["pid"] != done[0]["pid"]


async def test_a_gateway_serves_callers_on_other_event_loops(failing: tuple[mcp.Gateway, Path]) -> None:
    def elsewhere() -> Any:
        return asyncio.run(failing[0].read("aws fake --do=elsewhere"))

    assert (await asyncio.to_thread(elsewhere))["did"] == "elsewhere"


async def test_a_call_inside_a_transaction_is_refused(
    failing: tuple[mcp.Gateway, Path], tmp_path: Path
) -> None:
    database = open_database(f"sqlite:///{tmp_path / 'some.db'}")
    with database.transaction(), pytest.raises(CallInTransaction):
        await failing[0].read("aws fake --do=hidden")
    database.close()
    assert "aws fake --do=hidden" not in calls(failing[1], "reader")


async def test_calls_are_counted_and_timed_by_tool(failing: tuple[mcp.Gateway, Path]) -> None:
    await failing[0].read("aws fake --do=counted")
    exposition = telemetry.exposition().decode()
    assert 'fairlead_mcp_calls_total{outcome="ok",pool="reader",tool="call_aws"}' in exposition
    assert 'fairlead_mcp_call_seconds_count{pool="reader",tool="call_aws"}' in exposition


async def test_a_stuck_server_costs_its_caller_the_deadline_and_is_replaced(tmp_path: Path) -> None:
    async with failing_gateway(tmp_path, call_timeout_s=3.0) as gateway:

        async def patiently(command: str) -> int:
            while True:
                with suppress(mcp.GatewayBusy):  # its server may need longer than that to start
                    return int((await gateway.write(command, safe_to_retry=False))["pid"])

        before = await patiently("aws fake --do=first")
        with pytest.raises(DeadlineExceeded):
            await gateway.write("aws fake --do=never", safe_to_retry=False)
        assert await patiently("aws fake --do=next") != before
        assert calls(tmp_path, "writer").count("aws fake --do=never") == 1


async def test_closing_ends_every_server_even_in_the_middle_of_a_call(tmp_path: Path) -> None:
    before = children()
    async with failing_gateway(tmp_path) as gateway:
        await gateway.warm()
        servers = children() - before
        assert len(servers) == 2
        assert "sandbox-secret" not in command_lines(servers)
        call = asyncio.create_task(gateway.write("aws fake --do=never", safe_to_retry=False))
        await asyncio.to_thread(until, lambda: "aws fake --do=never" in calls(tmp_path, "writer"))
    with pytest.raises(mcp.ServerDied):
        await call
    await asyncio.to_thread(until, lambda: children() - before == set())
    with pytest.raises(mcp.ServerUnavailable, match="closed"):
        await gateway.read(WHO)


@pytest.mark.parametrize(
    ("arguments", "configured", "code", "words"),
    [
        (("another_tool",), {}, "mcp.tool_missing", "another_tool"),
        (("call_aws", "exit"), {}, "mcp.server_unavailable", "refuses to start"),
        ((), {"command": ("/no/such/program",)}, "mcp.server_unavailable", "No such file"),
        ((), {"transport": "http"}, "mcp.server_unavailable", "No MCP endpoint"),
        (
            (),
            {"transport": "http", "url": "http://u:hidden@127.0.0.1:9/mcp"},
            "mcp.server_unavailable",
            "127.0",
        ),
    ],
    ids=["another tool", "a server that ends at once", "no such program", "no address", "nobody there"],
)
async def test_a_server_that_cannot_be_used_is_named_with_its_reason(
    tmp_path: Path, arguments: tuple[str, ...], configured: dict[str, Any], code: str, words: str
) -> None:
    async with failing_gateway(tmp_path, *arguments, **configured) as gateway:
        with pytest.raises(FairleadError, match=words) as refused:
            await gateway.write("aws fake --do=go", safe_to_retry=False)
        assert refused.value.code == code
        assert refused.value.remedy
        assert "hidden" not in str(refused.value.problem())


async def test_a_server_that_could_not_start_is_tried_anew_by_who_asks_later(tmp_path: Path) -> None:
    program = tmp_path / "server"
    arguments = {"command": (str(program),), "writers": 2}
    async with failing_gateway(tmp_path, **arguments) as gateway:
        with pytest.raises(mcp.ServerUnavailable):
            await gateway.write("aws fake --do=go", safe_to_retry=False)
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{FAKE}"\n')
        program.chmod(0o700)
        assert (await gateway.write("aws fake --do=go", safe_to_retry=False))["did"] == "go"


async def test_a_server_that_keeps_failing_is_left_alone_for_a_while(tmp_path: Path) -> None:
    async with failing_gateway(tmp_path, command=("/no/such/program",)) as gateway:
        for _ in range(5):
            with pytest.raises(mcp.ServerUnavailable):
                await gateway.write("aws fake --do=go", safe_to_retry=False)
        with pytest.raises(BreakerOpen):
            await gateway.write("aws fake --do=go", safe_to_retry=False)


ORPHAN = """
import asyncio, sys
from pathlib import Path
from tests.changes.aws_gateway import children, failing_gateway
async def main():
    async with failing_gateway(Path(sys.argv[1])) as gateway:
        await gateway.warm()
        print(*children(), flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


async def test_servers_end_when_we_are_killed(tmp_path: Path) -> None:
    process = subprocess.Popen(  # noqa: ASYNC220 - nothing else runs on this loop
        [sys.executable, "-c", ORPHAN, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    servers = [int(pid) for pid in process.stdout.readline().split()]
    assert len(servers) == 2
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    until(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() and _alive(pid) for pid in servers))


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# The real server in front of a real sandbox.


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with start_sandbox(tmp_path_factory.mktemp("sandbox"), latency_ms=1.0) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def real(
    sandbox: SandboxProcess, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[mcp.Gateway, Path]]:
    folder = tmp_path_factory.mktemp("real")
    async with gateway_to(aws_settings(sandbox.endpoint_url, writers=1), folder) as gateway:
        yield gateway, folder


async def test_the_real_server_starts_offline_and_answers_with_our_account(
    real: tuple[mcp.Gateway, Path],
) -> None:
    assert (await real[0].read(WHO))["Account"] == "111122223333"


async def test_the_read_only_servers_refuse_to_write(real: tuple[mcp.Gateway, Path]) -> None:
    with pytest.raises(answers.ReadOnlyRefused):
        await real[0].read(command("s3api", "create-bucket", bucket="never-made"))
    with pytest.raises(FairleadError):
        await real[0].read(command("s3api", "head-bucket", bucket="never-made"))


@pytest.mark.parametrize("size", [60_000, 250_000], ids=["60 KB", "250 KB"])
async def test_large_documents_pass_through_the_command_line(
    real: tuple[mcp.Gateway, Path], size: int
) -> None:
    text = ('it\'s "quoted" \\ ü\n $(no) `no` --region x' * size)[:size]
    gateway = real[0]
    put = command("ssm", "put-parameter", name="large", value=text, type="String")
    await gateway.write(f"{put} --overwrite", safe_to_retry=False)
    found = await gateway.read(command("ssm", "get-parameter", name="large"))
    assert found["Parameter"]["Value"] == text


async def test_a_batch_of_twenty_and_more_comes_back_in_order(real: tuple[mcp.Gateway, Path]) -> None:
    asked = [command("sqs", "get-queue-url", queue_name=f"absent-{n}") for n in range(45)]
    asked[7] = asked[33] = WHO
    outcomes = await real[0].read_many(asked)
    assert [n for n, outcome in enumerate(outcomes) if isinstance(outcome, dict)] == [7, 33]


async def test_nothing_is_written_to_the_users_home(real: tuple[mcp.Gateway, Path]) -> None:
    await real[0].warm()
    folder = real[1] / "mcp" / "reader"
    assert (folder / ".aws" / "aws-api-mcp").is_dir()
    assert folder.stat().st_mode & 0o777 == 0o700


async def test_killed_servers_are_replaced_without_a_caller_noticing(
    real: tuple[mcp.Gateway, Path],
) -> None:
    await real[0].warm()
    for pid in children():
        if "awsapi/launch.py" in command_lines({pid}):
            os.kill(pid, signal.SIGKILL)
    reads = await asyncio.gather(*(real[0].read(WHO) for _ in range(5)))
    assert {answer["Account"] for answer in reads} == {"111122223333"}
    assert (await real[0].write(WHO, safe_to_retry=True))["Account"] == "111122223333"


async def test_an_endpoint_that_is_gone_is_unreachable_not_unknown(tmp_path: Path) -> None:
    async with gateway_to(aws_settings(f"http://127.0.0.1:{free_port()}", writers=1), tmp_path) as gateway:
        with pytest.raises(answers.Unreachable):
            await gateway.write(WHO, safe_to_retry=False)


def http_server(sandbox: SandboxProcess, home: Path) -> tuple[subprocess.Popen[bytes], str]:
    """The real server, listening; and its address."""
    port = free_port()
    variables = servers.variables(
        aws_settings(sandbox.endpoint_url), home, read_only=False, inherited=toolenv.clean_environment()
    )
    http = {"AWS_API_MCP_TRANSPORT": "streamable-http", "AUTH_TYPE": "no-auth", "AWS_API_MCP_PORT": str(port)}
    server = subprocess.Popen(
        servers.start_command(None, toolenvs()),
        env=variables | http,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    until(listens, deadline_s=120)
    return server, f"http://127.0.0.1:{port}/mcp"


async def test_an_http_endpoint_serves_directly_and_through_the_proxy(
    sandbox: SandboxProcess, tmp_path: Path
) -> None:
    server, url = await asyncio.to_thread(http_server, sandbox, tmp_path)
    try:
        direct = aws_settings(transport="http", url=url, writers=1)
        async with gateway_to(direct, tmp_path) as gateway:
            assert (await gateway.write(WHO, safe_to_retry=False))["Account"] == "111122223333"
            assert len(await gateway.read_many([WHO] * 20)) == 20
        proxied = aws_settings(command=("mcp-proxy-for-aws", url), writers=1)
        async with gateway_to(proxied, tmp_path) as gateway:
            assert (await gateway.write(WHO, safe_to_retry=True))["Account"] == "111122223333"
    finally:
        server.kill()
        server.wait()
