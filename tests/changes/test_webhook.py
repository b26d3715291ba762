"""Posting to an address that a project names: where to, how often, and what nobody may learn by it."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress

import pytest

from fairlead.changes import webhook
from fairlead.kernel.errors import FairleadError
from fairlead.kernel.resilience import DeadlineExceeded, Policy
from tests.changes.webhook_server import Receiver, receiving

QUICK = Policy(deadline_s=30.0, attempts=3, wait_initial_s=0.001, wait_max_s=0.002)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


async def test_a_body_arrives_with_its_delivery_id(receiver: Receiver) -> None:
    assert await webhook.post(receiver.url, {"event": "e", "n": 1}, delivery="d-1", policy=QUICK) == 200
    assert (receiver.bodies, receiver.deliveries) == ([{"event": "e", "n": 1}], ["d-1"])
    assert receiver.paths == ["/hook/t0p-s3cret?key=s3cret"]


@pytest.mark.parametrize("first", [[500], [503, 502], [429], [408]], ids=str)
async def test_what_may_pass_is_tried_again_under_the_same_id(receiver: Receiver, first: list[int]) -> None:
    receiver.answers[:] = first
    assert await webhook.post(receiver.url, {}, delivery="d-1", policy=QUICK) == 200
    assert receiver.deliveries == ["d-1"] * (len(first) + 1)


@pytest.mark.parametrize(
    ("answers", "code", "posts"),
    [
        pytest.param([500] * 9, "changes.webhook_unanswered", 3, id="it keeps failing"),
        pytest.param([429] * 9, "changes.webhook_throttled", 3, id="it keeps throttling"),
        pytest.param([404], "changes.webhook_refused", 1, id="there is nothing"),
        pytest.param([302], "changes.webhook_refused", 1, id="it leads elsewhere"),
    ],
)
async def test_attempts_are_bounded_and_errors_do_not_tell_the_path(
    receiver: Receiver, answers: list[int], code: str, posts: int
) -> None:
    receiver.answers[:] = answers
    with pytest.raises(FairleadError) as caught:
        await webhook.post(receiver.url, {}, delivery="d", policy=QUICK)
    assert (caught.value.code, len(receiver.bodies)) == (code, posts)
    assert "127.0.0.1" in caught.value.message
    assert "s3cret" not in str(caught.value.problem())


async def test_nobody_at_home_is_told_without_the_path() -> None:
    with receiving() as gone:
        url = gone.url
    with pytest.raises(webhook.WebhookUnanswered) as caught:
        await webhook.post(url, {}, delivery="d", policy=QUICK)
    assert "s3cret" not in str(caught.value.problem())


async def test_a_server_that_never_answers_costs_the_deadline_and_no_more() -> None:
    held: list[asyncio.StreamWriter] = []

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)
        with suppress(ConnectionError):
            await reader.read()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    hasty = Policy(deadline_s=0.05, attempts=2, wait_initial_s=0.001, wait_max_s=0.002)
    try:
        with pytest.raises((DeadlineExceeded, webhook.WebhookUnanswered)):
            await webhook.post(f"http://127.0.0.1:{port}/", {}, delivery="d", policy=hasty)
    finally:
        server.close()
        for writer in held:
            writer.close()


@pytest.mark.parametrize(
    "address",
    [
        "http://example.com/hook",
        "http://10.0.0.1/",
        "http://localhost.example.com/",
        "http://0.0.0.0:8700/",
        "ftp://example.com/",
        "https://",
        "https://ann:pw@example.com/",
        "https://169.254.169.254/latest/meta-data/",
        "https://[fe80::1]/",
        "https://[::ffff:169.254.169.254]/",
        "https://224.0.0.1/",
        "file:///etc/passwd",
        "https://exa mple.com:x/",
    ],
)
async def test_nothing_is_posted_to_such_addresses(address: str) -> None:
    with pytest.raises(webhook.WebhookAddress) as caught:
        await webhook.post(address, {}, delivery="d", policy=QUICK)
    assert caught.value.status == 422
    assert "ann" not in caught.value.message


@pytest.mark.parametrize(
    "address",
    [
        "https://hooks.example.com/services/T/B/x",
        "https://10.1.2.3:8443/chat",
        "http://localhost:9000/",
        "http://127.0.0.1:9000/",
        "http://[::1]:9000/",
    ],
)
def test_https_and_this_machine_are_fine(address: str) -> None:
    webhook.check_address(address)
