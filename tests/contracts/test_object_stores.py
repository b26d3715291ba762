"""What memory, a folder and S3 promise alike."""

import asyncio

import pytest

from fairlead.kernel.objects import ObjectExists, ObjectKeyInvalid, ObjectMissing, ObjectStore

WRITERS = 50


@pytest.mark.parametrize("size_bytes", [0, 1, 10_000, 6_000_000])
async def test_an_object_is_read_back_byte_for_byte(objects: ObjectStore, size_bytes: int) -> None:
    data = bytes(index % 251 for index in range(size_bytes))
    await objects.put_new("a/b", data)
    assert await objects.get("a/b") == data


async def test_a_taken_key_is_refused_and_its_content_stays(objects: ObjectStore) -> None:
    await objects.put_new("a/b", b"first")
    with pytest.raises(ObjectExists) as refused:
        await objects.put_new("a/b", b"second")
    assert refused.value.status == 409
    assert refused.value.details["key"] == "a/b"
    assert await objects.get("a/b") == b"first"


async def test_of_many_racing_writers_exactly_one_wins(objects: ObjectStore) -> None:
    async def write(writer: int) -> int | None:
        try:
            await objects.put_new("race/v1", f"writer {writer}".encode() * 1000)
        except ObjectExists:
            return None
        return writer

    for _ in range(3):
        winners = [
            writer for writer in await asyncio.gather(*map(write, range(WRITERS))) if writer is not None
        ]
        assert len(winners) == 1
        assert await objects.get("race/v1") == f"writer {winners[0]}".encode() * 1000
        await objects.delete("race/v1")


async def test_put_replaces_what_is_there(objects: ObjectStore) -> None:
    await objects.put("a/b", b"first, and longer")
    await objects.put("a/b", b"second")
    assert await objects.get("a/b") == b"second"


async def test_a_missing_object_is_an_error_that_names_it(objects: ObjectStore) -> None:
    with pytest.raises(ObjectMissing) as error:
        await objects.get("no/such")
    assert error.value.status == 404
    assert objects.address("no/such") in error.value.message


async def test_the_first_bytes_can_be_read_alone(objects: ObjectStore) -> None:
    await objects.put("a/b", b"0123456789")
    assert await objects.get("a/b", first_bytes=4) == b"0123"
    assert await objects.get("a/b", first_bytes=400) == b"0123456789"


async def test_a_listing_is_ordered_and_stays_in_its_folder(objects: ObjectStore) -> None:
    for key in ("p/state/v3", "p/state/v1", "p/state/v2", "p/state2/v9", "p/v0", "q/state/v1"):
        await objects.put(key, key.encode())
    found = await objects.list("p/state")
    assert [info.key for info in found] == ["p/state/v1", "p/state/v2", "p/state/v3"]
    assert [info.size_bytes for info in found] == [10, 10, 10]
    assert all(info.modified.tzinfo for info in found)


async def test_a_listing_can_start_after_a_key_that_is_not_there(objects: ObjectStore) -> None:
    for number in (1, 2, 4, 5):
        await objects.put(f"p/v{number}", b"x")
    assert [info.key for info in await objects.list("p", start_after="p/v3")] == ["p/v4", "p/v5"]
    assert [info.key for info in await objects.list("p", start_after="p/v4")] == ["p/v5"]
    assert await objects.list("p", start_after="p/v5") == []


async def test_a_listing_longer_than_one_page_is_complete(objects: ObjectStore) -> None:
    count = 1010 if objects.url.startswith("s3:") else 60  # only S3 has pages, of 1,000
    keys = [f"many/{number:05d}" for number in range(count)]
    gate = asyncio.Semaphore(32)

    async def put(key: str) -> None:
        async with gate:
            await objects.put(key, b"x")

    await asyncio.gather(*map(put, keys))
    assert [info.key for info in await objects.list("many")] == keys


async def test_a_folder_without_objects_is_empty(objects: ObjectStore) -> None:
    assert await objects.list("nothing/here") == []


async def test_deleting_is_idempotent(objects: ObjectStore) -> None:
    await objects.put("a/b", b"x")
    await objects.delete("a/b")
    await objects.delete("a/b")
    with pytest.raises(ObjectMissing):
        await objects.get("a/b")


async def test_a_store_that_works_passes_its_check(objects: ObjectStore) -> None:
    await objects.check()


@pytest.mark.parametrize(
    "key",
    ["", "/", "/etc/passwd", "a//b", "a/", "../a", "a/../b", "a/./b", ".a", "a/.b", "a#1", "a b", "a\0b", "ä",
     "a\\b", "a/b\n", "x" * 901],
)  # fmt: skip
async def test_a_key_that_could_leave_the_store_is_refused_everywhere(objects: ObjectStore, key: str) -> None:
    for attempt in (
        objects.get(key),
        objects.put(key, b"x"),
        objects.put_new(key, b"x"),
        objects.list(key),
        objects.delete(key),
    ):
        with pytest.raises(ObjectKeyInvalid):
            await attempt
    with pytest.raises(ObjectKeyInvalid):
        objects.address(key)
