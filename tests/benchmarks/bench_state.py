"""How long it takes to commit, read and compare states of 10 KB, 1 MB and 14 MB on each object store.

One commit is what an apply does: look for the newest version, encode, hash, create. Folder commits are
synced to disk.
"""

import asyncio
import statistics
import tempfile
import time
import uuid
from collections.abc import Awaitable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from fairlead.changes.state import StateLog, StateResource, compare
from fairlead.kernel import telemetry
from fairlead.kernel.objects import ObjectStore, open_objects
from tests.changes.state_factory import resource, snapshot
from tests.contracts.stores import running_s3, s3_store

Figure = tuple[str, float, str]
SIZES = {"10kb": (10, 60), "1mb": (1_000, 20), "14mb": (14_000, 6)}  # resources of about 1 KB, repetitions


def _resources(count: int) -> list[StateResource]:
    return [
        resource(f"R{number:05d}", properties={"ImageId": f"ami-{number}", "UserData": "x" * 570})
        for number in range(count)
    ]


@contextmanager
def _stores() -> Iterator[dict[str, ObjectStore]]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fairlead-bench-")))
        stores = {"memory": open_objects("memory://"), "folder": open_objects(folder.as_uri())}
        with suppress(pytest.skip.Exception):  # offline: the other two still have figures
            stores["s3"] = s3_store(stack.enter_context(running_s3()))
        yield stores


async def _timed(action: Awaitable[object]) -> float:
    started = time.perf_counter()
    await action
    return (time.perf_counter() - started) * 1000


def _figures(name: str, times_ms: list[float]) -> list[Figure]:
    ordered = sorted(times_ms)
    p95 = ordered[min(len(ordered) - 1, round(0.95 * len(ordered)))]
    return [(f"{name}_p50", statistics.median(ordered), "ms"), (f"{name}_p95", p95, "ms")]


async def _measure(store: ObjectStore, place: str, label: str, count: int, repeats: int) -> list[Figure]:
    log = StateLog(store, uuid.uuid4().hex)
    resources = _resources(count)
    commits, reads = [], []
    for base in range(repeats + 1):
        changed = [*resources[:-1], resource("Changed", properties={"Number": base})]
        content = snapshot(*changed)
        commits.append(await _timed(log.commit(base, content, f"n{base}")))
        reads.append(await _timed(log.read(base + 1)))
    state = await log.read(1)
    return [
        *_figures(f"state_commit_{label}_{place}", commits[1:]),  # the first one warms connections up
        *_figures(f"state_read_{label}_{place}", reads[1:]),
        *([(f"state_bytes_{label}", float(state.about.size_bytes), "bytes")] if place == "memory" else []),
    ]


def _compare_ms(count: int) -> float:
    before = _resources(count)
    after = [*before[: count * 9 // 10], *(resource(each.logical_id) for each in before[count * 9 // 10 :])]
    started = time.process_time()
    compare(before, after)
    return (time.process_time() - started) * 1000


async def _all() -> list[Figure]:
    figures: list[Figure] = []
    with _stores() as stores:
        for label, (count, repeats) in SIZES.items():
            for place, store in stores.items():
                figures += await _measure(store, place, label, count, repeats)
    return [*figures, ("state_compare_14000_resources_cpu", _compare_ms(14_000), "ms")]


def run() -> list[Figure]:
    """Every figure as (name, value, unit)."""
    return asyncio.run(_all())


if __name__ == "__main__":
    telemetry.configure(level="warning")
    for name, value, unit in run():
        print(f"{name} {value:.2f} {unit}")
