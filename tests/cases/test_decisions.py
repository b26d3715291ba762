"""Decisions of the pipeline as tables: waiting for deliveries, stopping, cleaning up, freeing places."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fairlead.cases.deliveries import group
from fairlead.cases.model import Delivery
from fairlead.cases.places import HostInvalid, open_places
from fairlead.cases.steps.cleanup import remove_marked
from fairlead.cases.steps.group import decide
from fairlead.cases.steps.validate import own_folder
from fairlead.kernel.settings import CaseHostSettings

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
ROOM = datetime(2031, 7, 7, 3)  # noqa: DTZ001 - the room's clock is years ahead: it must not matter


def delivery(beam: int, minutes: int) -> Delivery:
    at = ROOM + timedelta(minutes=minutes)
    return Delivery(at.strftime("%Y%m%d%H%M%S00"), "PlanRange.txt", beam, 1, 1, at, (), "P")


FIRST = delivery(1, 0).folder
TABLE = {
    "complete": ([(1, 0), (2, 5)], {}, ["complete"], None),
    "one missing, seen for the first time": ([(1, 0)], {}, ["pending"], HOUR),
    "one missing, seen half an hour ago": ([(1, 0)], {FIRST: -HOUR / 2}, ["pending"], HOUR / 2),
    "one missing, seen an hour ago": ([(1, 0)], {FIRST: -HOUR}, ["partial"], None),
    "an earlier fraction is complete": ([(1, 0), (2, 5), (1, 120)], {}, ["complete", "pending"], None),
    "a beam twice": ([(1, 0), (1, 5), (2, 9)], {}, ["anomaly"], None),
    "two partial fractions, one overdue": (
        [(1, 0), (2, 120)],
        {FIRST: -2 * HOUR},
        ["partial", "pending"],
        HOUR,
    ),
}


@pytest.mark.parametrize(("given", "known", "states", "wait"), TABLE.values(), ids=TABLE.keys())
def test_a_fraction_waits_for_its_missing_deliveries_by_our_own_clock(
    given: list[tuple[int, int]], known: dict[str, timedelta], states: list[str], wait: timedelta | None
) -> None:
    found = group([delivery(*one) for one in given], [1, 2])
    opened = {folder: NOW + since for folder, since in known.items()}
    rows, until = decide(found, opened, NOW, HOUR)
    assert [row["state"] for row in rows] == states
    assert until == (NOW + wait if wait is not None else None)


def test_clean_up_touches_only_folders_with_our_mark_and_follows_no_link(tmp_path: Path) -> None:
    theirs, ours, link = tmp_path / "theirs", tmp_path / "ours", tmp_path / "link"
    (theirs / "source").mkdir(parents=True)
    (theirs / "source" / "precious").touch()
    own_folder(ours)
    (ours / "in").mkdir()
    (ours / "results").mkdir()
    (ours / "source").symlink_to(theirs / "source")
    link.symlink_to(ours)
    assert not remove_marked(theirs)
    assert not remove_marked(link)
    assert not remove_marked(tmp_path / "missing")
    assert remove_marked(ours, ("source", "in"))
    assert sorted(path.name for path in ours.iterdir()) == [".fairlead-work", "results", "source"]
    assert remove_marked(ours)
    assert not ours.exists()
    assert (theirs / "source" / "precious").exists()


@pytest.mark.parametrize(
    ("hosts", "words"),
    [
        ([{"name": "a"}, {"name": "a"}], "Two hosts"),
        ([{"name": "a", "executor": "ssh"}], "lacks address"),
        (
            [{"name": "a", "executor": "ssh", "address": "h", "user": "u", "known_hosts": "/missing"}],
            "known_hosts",
        ),
    ],
    ids=["the same name twice", "no address", "no known_hosts file"],
)
async def test_hosts_that_cannot_be_used_are_refused_by_name(hosts: list[dict[str, Any]], words: str) -> None:
    settings = [CaseHostSettings.model_validate({"work_dir": "/w", **host}) for host in hosts]
    with pytest.raises(HostInvalid, match=words):
        async with open_places(settings):
            pass
