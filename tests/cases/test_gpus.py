"""What nvidia-smi may print, who gets which GPU, and leases that cannot leak."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fairlead.cases import gpus
from fairlead.cases.gpus import Gpu, Grant, HostState, Lease, Request, Slots, schedule
from fairlead.cases.local import LocalHost
from fairlead.kernel.db import Database

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
U0, U1 = "GPU-00000000-aaaa", "GPU-11111111-bbbb"

PLAIN = f"""0, {U0}, NVIDIA A100-SXM4-40GB, 40960, 1024, 35, 12, Disabled
1, {U1}, NVIDIA A100-SXM4-40GB, 40960, 0, 33, 0, Disabled
---
{U0}, 4242
{U0}, 4243
---
GPU 0: NVIDIA A100-SXM4-40GB (UUID: {U0})
GPU 1: NVIDIA A100-SXM4-40GB (UUID: {U1})
"""
OLD = f"0, {U0}, Quadro P400, [N/A], [Not Supported], ERR!, [N/A], [N/A]\n---\n---\n"
MIG = f"""0, {U0}, NVIDIA A100-SXM4-40GB, 40960, 25, 30, [N/A], Enabled
1, {U1}, NVIDIA A100-SXM4-40GB, 40960, 0, 33, 0, Disabled
---
---
GPU 0: NVIDIA A100-SXM4-40GB (UUID: {U0})
  MIG 3g.20gb     Device  0: (UUID: MIG-aaa1)
  MIG 1g.5gb      Device  1: (UUID: MIG-aaa2)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: {U1})
"""


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        pytest.param("", [], id="no-driver"),
        pytest.param(
            "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n",
            [],
            id="no-kernel",
        ),
        pytest.param("No devices were found\n---\n---\n", [], id="no-devices"),
        pytest.param(PLAIN, [(U0, 0, 40960, 1024, 12, 2), (U1, 1, 40960, 0, 0, 0)], id="two"),
        pytest.param(OLD, [(U0, 0, None, None, None, 0)], id="not-available"),
        pytest.param(
            MIG,
            [
                ("MIG-aaa1", 0, None, None, None, 0),
                ("MIG-aaa2", 0, None, None, None, 0),
                (U1, 1, 40960, 0, 0, 0),
            ],
            id="mig",
        ),
        pytest.param(
            f"Unable to determine the device handle for GPU 0000:01:00.0: Unknown Error\n{PLAIN}",
            [(U0, 0, 40960, 1024, 12, 2), (U1, 1, 40960, 0, 0, 0)],
            id="complaint-first",
        ),
    ],
)
def test_gpus_are_read_from_what_the_driver_prints(output: str, expected: list[tuple[Any, ...]]) -> None:
    found = gpus.parse(output)
    shown = [
        (g.uuid, g.index, g.memory_total_mb, g.memory_used_mb, g.utilisation_percent, g.processes)
        for g in found
    ]
    assert shown == expected


@given(st.text(max_size=300))
@example("\r0")
@settings(deadline=None, max_examples=60)
def test_no_output_whatever_breaks_the_reader(text: str) -> None:
    assert all(isinstance(gpu, Gpu) for gpu in gpus.parse(text))


async def test_a_machine_without_a_driver_has_no_gpus_and_one_with_nvidia_smi_has_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    cards, _, _ = PLAIN.split("---\n")
    tool.write_text(f'#!/bin/sh\ncase "$1" in --query-gpu*) cat <<EOF\n{cards}EOF\n;; *) exit 9;; esac\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert await gpus.discover(LocalHost("here", str(tmp_path))) == ()
    monkeypatch.setenv("PATH", f"{tool.parent}:/usr/bin:/bin")
    assert [gpu.uuid for gpu in await gpus.discover(LocalHost("here", str(tmp_path)))] == [U0, U1]


def want(holder: str, project: str = "p", **changes: Any) -> Request:
    return replace(
        Request(holder=holder, project_id=project, gpus=1, priority=0, since=NOW - timedelta(seconds=1)),
        **changes,
    )


def lease(holder: str, host: str, *slots: str, project: str = "p") -> Lease:
    return Lease(holder=holder, project_id=project, host=host, slots=slots, expires_at=NOW)


A2 = Slots(host="a", gpus=("a0", "a1"), cpu_jobs=1)
B4 = Slots(host="b", gpus=("b0", "b1", "b2", "b3"))
LONG = NOW - timedelta(hours=1)


@pytest.mark.parametrize(
    ("requests", "hosts", "leases", "expected"),
    [
        pytest.param([want("x")], [A2], [], {"x": "a:a0"}, id="first-free"),
        pytest.param([want("x")], [A2], [lease("y", "a", "a0")], {"x": "a:a1"}, id="taken-passed-over"),
        pytest.param([want("x")], [A2], [lease("y", "a", "a0", "a1")], {}, id="full"),
        pytest.param([want("x", gpus=0)], [A2], [], {"x": "a:cpu-0"}, id="without-gpu"),
        pytest.param([want("x", gpus=2)], [A2, B4], [], {"x": "a:a0,a1"}, id="best-fit"),
        pytest.param([want("x", gpus=3)], [A2, B4], [], {"x": "b:b0,b1,b2"}, id="several-on-one-host"),
        pytest.param([want("x", gpus=5)], [A2, B4], [], {}, id="never-across-hosts"),
        pytest.param([want("x", hosts=("b",))], [A2, B4], [], {"x": "b:b0"}, id="only-there"),
        pytest.param(
            [want("x")], [replace(A2, state=HostState.PAUSED), B4], [], {"x": "b:b0"}, id="paused-host"
        ),
        pytest.param([want("x")], [replace(A2, state=HostState.DRAINING)], [], {}, id="draining-host"),
        pytest.param(
            [want("low"), want("high", priority=5)],
            [A2],
            [lease("y", "a", "a0", project="q")],
            {"high": "a:a1"},
            id="priority",
        ),
        pytest.param(
            [want("old", since=LONG), want("high", priority=5)],
            [A2],
            [lease("y", "a", "a0", project="q")],
            {"old": "a:a1"},
            id="ageing-beats-priority",
        ),
        pytest.param(
            [want("many", "q"), want("few", "p")],
            [A2],
            [lease("y", "a", "a0", project="q")],
            {"few": "a:a1"},
            id="fair-between-projects",
        ),
        pytest.param(
            [want("q1", "q"), want("q2", "q"), want("p1", "p", since=NOW)],
            [A2],
            [],
            {"q1": "a:a0", "p1": "a:a1"},
            id="fair-within-one-round",
        ),
        pytest.param(
            [want("big", gpus=2, since=LONG), want("small")],
            [A2],
            [lease("y", "a", "a0", project="q")],
            {},
            id="big-one-is-not-starved",
        ),
        pytest.param(
            [want("big", gpus=2), want("small")],
            [A2],
            [lease("y", "a", "a0", project="q")],
            {"small": "a:a1"},
            id="small-may-go-first-for-a-while",
        ),
        pytest.param(
            [want("impossible", gpus=9, since=LONG), want("small")],
            [A2],
            [],
            {"small": "a:a0"},
            id="what-never-fits-blocks-nobody",
        ),
    ],
)
def test_slots_go_to_whose_turn_it_is(
    requests: list[Request], hosts: list[Slots], leases: list[Lease], expected: dict[str, str]
) -> None:
    grants = schedule(requests, hosts, leases, NOW)
    assert {g.request.holder: f"{g.host}:{','.join(g.slots)}" for g in grants} == expected


@given(
    st.lists(
        st.tuples(st.sampled_from("pqr"), st.integers(0, 4), st.integers(-3, 3), st.integers(0, 9000)),
        max_size=12,
    )
)
@settings(deadline=None, max_examples=60)
def test_no_slot_is_ever_given_twice_and_none_is_left_while_somebody_young_fits(
    wishes: list[tuple[str, int, int, int]],
) -> None:
    requests = [
        want(f"h{n}", project, gpus=count, priority=priority, since=NOW - timedelta(seconds=waited))
        for n, (project, count, priority, waited) in enumerate(wishes)
    ]
    taken = lease("t", "b", "b2")
    grants: list[Grant] = schedule(requests, [A2, B4], [taken], NOW)
    used = Counter((grant.host, slot) for grant in grants for slot in grant.slots)
    assert ("b", "b2") not in used
    assert set(used.values()) <= {1}
    assert all(len(grant.slots) == max(1, grant.request.gpus) for grant in grants)
    if all((NOW - r.since).total_seconds() < gpus.RESERVE_AFTER_S for r in requests):
        held = [lease(g.request.holder, g.host, *g.slots) for g in grants]
        rest = [r for r in requests if r.holder not in {g.request.holder for g in grants}]
        assert schedule(rest, [A2, B4], [taken, *held], NOW) == []


def claim(database: Database, holder: str, now: datetime, *, gpus_wanted: int = 1) -> Lease | None:
    with database.transaction() as connection:
        gpus.enqueue(connection, want(holder, gpus=gpus_wanted, since=now), now)
    with database.transaction() as connection:
        return gpus.claim(connection, holder, [A2], now)


def test_a_holder_finds_its_own_lease_again_and_nobody_gets_the_same_gpu(database: Database) -> None:
    first, second = claim(database, "x", NOW), claim(database, "y", NOW)
    assert first is not None
    assert second is not None
    assert set(first.gpu_ids).isdisjoint(second.gpu_ids)
    assert claim(database, "x", NOW) == first
    assert claim(database, "z", NOW) is None
    with database.transaction() as connection:
        gpus.release(connection, "x")
        gpus.release(connection, "x")
        assert gpus.leases(connection) == (second,)
    third = claim(database, "z", NOW)
    assert third is not None
    assert third.gpu_ids == first.gpu_ids


def test_a_lease_that_nobody_renews_is_listed_but_stays_until_it_is_released(database: Database) -> None:
    claim(database, "dead", NOW)
    claim(database, "alive", NOW)
    later = NOW + timedelta(seconds=gpus.LEASE_S + 1)
    with database.transaction() as connection:
        assert gpus.renew(connection, "alive", later)
        assert not gpus.renew(connection, "nobody", later)
        assert [found.holder for found in gpus.expired(connection, later)] == ["dead"]
    assert claim(database, "next", later) is None  # its job may still be running
    with database.transaction() as connection:
        gpus.release(connection, "dead")
    assert claim(database, "next", later) is not None


def test_a_waiter_that_died_does_not_hold_up_the_others_and_comes_back_to_its_place(
    database: Database,
) -> None:
    claim(database, "running", NOW, gpus_wanted=2)
    with database.transaction() as connection:
        gpus.enqueue(connection, want("dead", priority=9), NOW)
        gpus.enqueue(connection, want("alive"), NOW)
        gpus.release(connection, "running")
    later = NOW + timedelta(seconds=gpus.WAITER_S + 1)
    assert claim(database, "alive", later) is not None
    with database.transaction() as connection:
        assert [r.holder for r in gpus.waiting(connection)] == ["dead"]
        assert gpus.prioritise(connection, "dead", 3)
        assert not gpus.prioritise(connection, "alive", 3)
        assert gpus.waiting(connection)[0].priority == 3
    assert claim(database, "dead", later) is not None
