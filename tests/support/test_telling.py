"""What a job says while it is at work: in order, not too often, and nothing twice."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest

from fairlead.support.model import Language
from fairlead.support.telling import Teller, Told, apart_s, merged, untold


@dataclass
class Stream:
    """A job's stream, where a key counts once."""

    events: dict[str, tuple[str, dict[str, Any], float]] = field(default_factory=dict)

    async def append(self, type_: str, data: Mapping[str, Any], *, key: str) -> None:
        self.events.setdefault(key, (type_, dict(data), asyncio.get_running_loop().time()))

    async def reaches(self, number: int) -> None:
        """Return once there are so many events."""
        while len(self.events) < number:  # noqa: ASYNC110 - nobody rings
            await asyncio.sleep(0.01)

    def progress(self) -> list[tuple[dict[str, Any], float]]:
        return [(data, at) for type_, data, at in self.events.values() if type_ == "support.progress"]

    def text(self) -> str:
        return "".join(data["text"] for type_, data, _ in self.events.values() if type_ == "support.delta")


async def said(stream: Stream, before: Told, pieces: list[str], *, heartbeat_s: float = 5.0) -> None:
    """One execution of a step that tells `pieces`."""
    teller = Teller(stream.append, before, Language.ENGLISH, heartbeat_s=heartbeat_s)
    task = asyncio.create_task(teller.tell())
    for piece in pieces:
        teller.text(piece)
        await asyncio.sleep(0)
    await teller.finish(task, done=False)


@pytest.mark.parametrize(
    ("known", "text", "rest"),
    [
        ("", "", ""),
        ("", "abc", "abc"),
        ("abc", "abcdef", "def"),
        ("abc", "ab", ""),
        ("abc", "abc", ""),
        ("abc", "abX", None),
        ("abc", "Xbcdef", None),
    ],
)
def test_what_of_a_text_is_still_to_be_told(known: str, text: str, rest: str | None) -> None:
    assert untold(known, text) == rest


@pytest.mark.parametrize(
    ("before", "given", "expected"),
    [
        ((10, "preparing"), (20, "collecting"), (20, "collecting")),
        ((60, "checking"), (20, "collecting"), (60, "checking")),
        ((60, "collecting"), (50, "rendering"), (60, "rendering")),
        ((99, "storing"), (400, "done"), (100, "done")),
    ],
)
def test_progress_is_never_behind_what_was_told(
    before: tuple[int, str], given: tuple[int, str], expected: tuple[int, str]
) -> None:
    one, other = ({"percent": percent, "stage": stage} for percent, stage in (before, given))
    assert merged(one, other) == {"percent": expected[0], "stage": expected[1]}


def test_a_long_job_tells_less_often() -> None:
    assert [apart_s(age_s) for age_s in (0, 30, 120, 600, 36_000)] == [0.5, 0.5, 1.0, 5.0, 5.0]


def test_an_execution_that_begins_again_goes_on_with_its_text() -> None:
    stream = Stream()
    asyncio.run(said(stream, Told(), ["Hello", ", wor"]))
    asyncio.run(said(stream, Told(seq=3, text=stream.text()), ["Hel", "lo, world", "!"]))
    assert stream.text() == "Hello, world!"


def test_an_execution_with_another_text_leaves_the_first_one_as_it_was() -> None:
    stream = Stream()
    asyncio.run(said(stream, Told(), ["Hello"]))
    asyncio.run(said(stream, Told(seq=2, text="Hello"), ["Good", " morning"]))
    assert stream.text() == "Hello"


def test_a_silence_is_filled_with_signs_of_life_that_say_how_long_it_is() -> None:
    stream = Stream()

    async def silent() -> None:
        teller = Teller(stream.append, Told(), Language.KOREAN, heartbeat_s=0.6)
        task = asyncio.create_task(teller.tell())
        teller.progress(30, "collecting", note="s3")
        async with asyncio.timeout(60):
            await stream.reaches(3)
        await teller.finish(task, done=True)

    asyncio.run(silent())
    first, *beats, last = (data for data, _ in stream.progress())
    assert first == {"percent": 30, "stage": "collecting", "note": "s3"}
    assert all("s3 · 진행 중" in beat["note"] for beat in beats)
    assert (last["percent"], last["stage"]) == (100, "done")


def test_a_flood_is_told_twice_a_second_and_its_end_is_told() -> None:
    stream = Stream()

    async def flood() -> None:
        teller = Teller(stream.append, Told(percent=7, stage="preparing"), Language.ENGLISH)
        task = asyncio.create_task(teller.tell())
        loop = asyncio.get_running_loop()
        until = loop.time() + 1.2
        percent = 0
        while loop.time() < until:
            teller.progress(percent := (percent + 1) % 80, "collecting")
            await asyncio.sleep(0)
        await teller.finish(task, done=True)

    asyncio.run(flood())
    told = stream.progress()
    assert told[0][0]["percent"] >= 7
    assert told[-1][0] == {"percent": 100, "stage": "done"}
    moments = [at for _, at in told]
    assert all(later - earlier >= 0.49 for earlier, later in pairwise(moments))
    assert len(told) <= 5
