"""The state log on memory, a folder and S3: one winner per version, nothing lost, damage found."""

import asyncio
import random

import pytest

from fairlead.changes.state import StateCorrupted, StateLog, StateMoved, StateVersion
from fairlead.kernel.objects import ObjectStore
from tests.changes.state_factory import NOW, resource, snapshot

WRITERS = 20


async def test_versions_count_up_and_are_bound_to_each_other(objects: ObjectStore) -> None:
    log = StateLog(objects, "web")
    assert await log.head() is None
    first = await log.commit(0, snapshot(resource("A")), "n1")
    second = await log.commit(1, snapshot(resource("A"), resource("B")), "n2")
    assert (first.version, second.version) == (1, 2)
    assert first.previous_sha256 is None
    assert second.previous_sha256 == first.sha256
    elsewhere = StateLog(objects, "web")
    assert await elsewhere.head() == second
    assert [each.logical_id for each in (await elsewhere.read(2)).resources] == ["A", "B"]
    assert [entry.about for entry in await elsewhere.history()] == [second, first]
    assert (await elsewhere.verify()).intact


async def test_of_racing_writers_exactly_one_wins_each_version(objects: ObjectStore) -> None:
    async def write(base: int, writer: int) -> StateVersion | None:
        try:
            return await StateLog(objects, "web").commit(
                base, snapshot(resource(f"W{writer}")), f"{base}-{writer}"
            )
        except StateMoved:
            return None

    for base in range(4):
        results = await asyncio.gather(*(write(base, writer) for writer in range(WRITERS)))
        winners = [result for result in results if result]
        assert len(winners) == 1
        assert winners[0] == await StateLog(objects, "web").head()
    report = await StateLog(objects, "web").verify()
    assert report.intact
    assert report.head == 4


async def test_every_read_modify_write_lands_when_losers_try_again(objects: ObjectStore) -> None:
    async def add(writer: int) -> None:
        log = StateLog(objects, "web")
        for attempt in range(200):
            state = await log.current()
            base = state.about.version if state else 0
            standing = state.resources if state else ()
            try:
                await log.commit(base, snapshot(*standing, resource(f"W{writer}")), f"writer-{writer}")
            except StateMoved:
                await asyncio.sleep(random.uniform(0, 0.002 * min(attempt + 1, 20)))
            else:
                return
        pytest.fail("never got through")

    await asyncio.gather(*map(add, range(WRITERS)))
    state = await StateLog(objects, "web").current()
    assert state is not None
    assert state.about.version == WRITERS
    assert {each.logical_id for each in state.resources} == {f"W{writer}" for writer in range(WRITERS)}


async def test_a_truncated_head_is_found_and_recovered_from(objects: ObjectStore) -> None:
    log = StateLog(objects, "web")
    await log.commit(0, snapshot(resource("A")), "n1")
    head = await log.commit(1, snapshot(resource("B")), "n2")
    key = "projects/web/state/v0000002.json"
    damaged = (await objects.get(key))[: head.size_bytes // 2]
    await objects.put(key, damaged)

    fresh = StateLog(objects, "web")
    with pytest.raises(StateCorrupted) as error:
        await fresh.head()
    assert error.value.details["version"] == 2
    assert error.value.details["address"] == objects.address(key)

    recovered = await fresh.recover("ann", timestamp=NOW, nonce="r1")
    assert recovered is not None
    assert (recovered.version, recovered.recovered_from) == (3, 1)
    assert [skipped.version for skipped in recovered.skipped] == [2]
    assert await objects.get(key) == damaged  # history is never rewritten
    assert [each.logical_id for each in (await fresh.read(3)).resources] == ["A"]
    report = await fresh.verify()
    assert report.intact
    assert [(fault.version, fault.code, fault.recovered) for fault in report.faults] == [
        (2, "corrupted", True)
    ]
    assert (await fresh.commit(3, snapshot(resource("C")), "n4")).version == 4
