"""State files that were cut, changed, swapped, doubled or removed: found, named, recovered from."""

from collections.abc import Callable

import pytest

from fairlead.changes.state import (
    StateCorrupted,
    StateLog,
    StateUnrecoverable,
    StateUnsupported,
)
from fairlead.kernel.objects import ObjectStore, open_objects
from tests.changes.state_factory import NOW, resource, snapshot


def key(version: int) -> str:
    return f"projects/web/state/v{version:07d}.json"


async def written(versions: int = 4) -> ObjectStore:
    """A store whose version n holds the resources R1 … Rn."""
    store = open_objects("memory://")
    log = StateLog(store, "web")
    for base in range(versions):
        resources = [resource(f"R{number}") for number in range(1, base + 2)]
        await log.commit(base, snapshot(*resources, description=f"c{base + 1}"), f"n{base}")
    return store


Damage = Callable[[bytes], bytes]
DAMAGES: dict[str, Damage] = {
    "empty": lambda data: b"",
    "cut in half": lambda data: data[: len(data) // 2],
    "last byte lost": lambda data: data[:-1],
    "not JSON": lambda data: b"\x00\xff garbage",
    "another JSON": lambda data: b'{"hello":"world"}',
    "a resource changed": lambda data: data.replace(b"ami-1", b"ami-2", 1),
    "an observed value changed": lambda data: data.replace(b"10.0.0.1", b"10.0.0.2", 1),
    "a resource's time changed": lambda data: data.replace(b'"createdAt":"2026', b'"createdAt":"2025', 1),
    "the actor changed": lambda data: data.replace(b'"actor":"ann"', b'"actor":"eve"', 1),
    "the description changed": lambda data: data.replace(
        b'"changeDescription":"c', b'"changeDescription":"d', 1
    ),
    "the author changed": lambda data: data.replace(b'"lastModifiedBy":"ann"', b'"lastModifiedBy":"eve"', 1),
    "the chain changed": lambda data: data.replace(b'"previous_sha256":"', b'"previous_sha256":"0', 1),
    "another project's": lambda data: data.replace(b'"projectId":"web"', b'"projectId":"api"', 1),
    "the file's time changed": lambda data: data.replace(b'],"timestamp":"2026', b'],"timestamp":"2025', 1),
    "a space added": lambda data: data.replace(b",", b", ", 1),
    "a space at the end": lambda data: data + b" ",
    "a field added": lambda data: data.replace(b'{"fairlead"', b'{"extra":1,"fairlead"', 1),
    "a field doubled": lambda data: data.replace(
        b'"version":"1.0.0"', b'"version":"1.0.0","version":"1.0.0"'
    ),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
async def test_damage_of_the_newest_version_is_told_and_recovered_from(damage: Damage) -> None:
    store = await written()
    before = await store.get(key(4))
    damaged = damage(before)
    assert damaged != before
    await store.put(key(4), damaged)

    log = StateLog(store, "web")
    for look in (log.head, log.current, lambda: log.read(4), lambda: log.commit(4, snapshot(), "n")):
        with pytest.raises(StateCorrupted) as error:
            await look()
        assert error.value.details["version"] == 4
        assert error.value.details["address"] == store.address(key(4))
        assert store.address(key(4)) in error.value.message
        assert error.value.remedy
    assert (await log.history())[0].problem

    recovered = await log.recover("ann", timestamp=NOW, nonce="r")
    assert recovered is not None
    assert (recovered.version, recovered.recovered_from, recovered.actor) == (5, 3, "ann")
    assert await store.get(key(4)) == damaged
    assert (await log.read(5)).resources == (await log.read(3)).resources
    assert await log.recover("ann", timestamp=NOW, nonce="again") == recovered  # nothing left to do
    assert (await log.verify()).intact


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
async def test_damage_of_an_old_version_is_found_by_verifying(damage: Damage) -> None:
    store = await written()
    await store.put(key(2), damage(await store.get(key(2))))
    log = StateLog(store, "web")
    report = await log.verify()
    assert not report.intact
    assert [(fault.version, fault.code, fault.address) for fault in report.faults] == [
        (2, "corrupted", store.address(key(2)))
    ]
    assert report.faults[0].problem
    assert (await log.read(4)).about.version == 4  # the newest is as good as ever


async def test_every_single_flipped_byte_is_noticed() -> None:
    store = await written(2)
    whole = await store.get(key(2))
    unnoticed = []
    for position in range(0, len(whole), 7):
        flipped = bytearray(whole)
        flipped[position] ^= 0x01
        await store.put(key(2), bytes(flipped))
        try:
            await StateLog(store, "web").read(2)
        except (StateCorrupted, StateUnsupported):
            continue
        unnoticed.append(position)
    assert unnoticed == []


async def test_swapped_versions_are_found() -> None:
    store = await written()
    second, third = await store.get(key(2)), await store.get(key(3))
    await store.put(key(2), third)
    await store.put(key(3), second)
    report = await StateLog(store, "web").verify()
    assert [(fault.version, fault.code) for fault in report.faults] == [(2, "corrupted"), (3, "corrupted")]
    assert "it holds version 3" in report.faults[0].problem


async def test_a_version_copied_over_another_is_found() -> None:
    store = await written()
    await store.put(key(4), await store.get(key(3)))
    with pytest.raises(StateCorrupted, match="it holds version 3"):
        await StateLog(store, "web").head()


async def test_a_missing_version_is_found() -> None:
    store = await written()
    await store.delete(key(2))
    log = StateLog(store, "web")
    assert [(fault.version, fault.code) for fault in (await log.verify()).faults] == [(2, "missing")]
    with pytest.raises(StateCorrupted, match="missing although later versions exist"):
        await log.read(2)
    assert [entry.version for entry in await log.history()] == [4, 3, 1]


async def test_a_missing_newest_version_is_found_by_who_knows_that_it_was_written() -> None:
    store = await written()
    await store.delete(key(4))
    log = StateLog(store, "web")
    assert (await log.verify()).intact
    report = await log.verify(at_least=4)
    assert [(fault.version, fault.code) for fault in report.faults] == [(4, "missing")]


async def test_a_version_forged_whole_breaks_the_chain() -> None:
    store, forger = await written(), await written(1)
    await StateLog(forger, "web").commit(1, snapshot(resource("Evil"), actor="eve"), "x")
    await store.put(key(2), await forger.get(key(2)))
    report = await StateLog(store, "web").verify()
    assert [(fault.version, fault.code) for fault in report.faults] == [(3, "chain_broken")]
    assert not report.intact


async def test_several_damaged_versions_are_passed_over_together() -> None:
    store = await written()
    for version in (3, 4):
        await store.put(key(version), b"")
    log = StateLog(store, "web")
    recovered = await log.recover("ann", timestamp=NOW, nonce="r")
    assert recovered is not None
    assert (recovered.version, recovered.recovered_from) == (5, 2)
    assert [(skipped.version, skipped.problem) for skipped in recovered.skipped] == [
        (4, "it is empty"),
        (3, "it is empty"),
    ]
    assert (await log.verify()).intact


async def test_a_state_without_an_intact_version_cannot_be_recovered_and_stays_untouched() -> None:
    store = await written(2)
    for version in (1, 2):
        await store.put(key(version), b"gone")
    with pytest.raises(StateUnrecoverable) as error:
        await StateLog(store, "web").recover("ann", timestamp=NOW, nonce="r")
    assert error.value.remedy
    assert len(await store.list("projects/web/state")) == 2


async def test_an_empty_or_intact_state_needs_no_recovery() -> None:
    assert await StateLog(open_objects("memory://"), "web").recover("ann", timestamp=NOW, nonce="r") is None
    store = await written(2)
    log = StateLog(store, "web")
    assert await log.recover("ann", timestamp=NOW, nonce="r") == await log.head()
    assert await log.latest() == 2


async def test_a_file_of_a_newer_fairlead_is_not_taken_for_damage() -> None:
    store = await written(1)
    newer = (await store.get(key(1))).replace(b'"version":"1.0.0"', b'"version":"2.0.0","zone":"x"')
    await store.put(key(1), newer)
    log = StateLog(store, "web")
    for look in (log.head, lambda: log.recover("ann", timestamp=NOW, nonce="r")):
        with pytest.raises(StateUnsupported, match=r"2\.0\.0"):
            await look()


async def test_other_objects_in_the_folder_are_left_alone() -> None:
    store = await written(2)
    for name in ("v0000009.json.bak", "v9.json", "notes.txt", "v0000007.json/x"):
        await store.put(f"projects/web/state/{name}", b"?")
    log = StateLog(store, "web")
    assert await log.latest() == 2
    assert (await log.verify()).faults == ()
