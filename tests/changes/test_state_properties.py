"""Any resources: what is written comes back, differences are exact, the chain holds."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from fairlead.changes.state import Difference, StateLog, StateResource, compare, is_sealed, seal, seal_paths
from fairlead.kernel.objects import open_objects
from tests.changes.state_factory import resource, snapshot

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
properties = st.dictionaries(text, json_values, max_size=4)
resource_sets = st.dictionaries(st.sampled_from("ABCDEF"), st.tuples(properties, properties), max_size=4).map(
    lambda found: tuple(resource(name, properties=a, observed=b) for name, (a, b) in sorted(found.items()))
)
quick = settings(max_examples=40, deadline=None)


@quick
@given(st.lists(resource_sets, min_size=1, max_size=4))
def test_every_version_comes_back_as_written_and_the_chain_holds(
    versions: list[tuple[StateResource, ...]],
) -> None:
    async def story() -> None:
        log = StateLog(open_objects("memory://"), "web")
        for base, resources in enumerate(versions):
            await log.commit(base, snapshot(*resources), f"n{base}")
        for version, resources in enumerate(versions, start=1):
            assert (await log.read(version)).resources == resources
        assert (await log.verify()).faults == ()

    asyncio.run(story())


@quick
@given(resource_sets)
def test_a_state_does_not_differ_from_itself(resources: tuple[StateResource, ...]) -> None:
    found = compare(resources, resources)
    assert (found.added, found.removed, found.changed) == ((), (), ())


@quick
@given(resource_sets, resource_sets)
def test_differences_are_the_same_seen_from_the_other_side(
    before: tuple[StateResource, ...], after: tuple[StateResource, ...]
) -> None:
    there, back = compare(before, after), compare(after, before)
    assert there.added == back.removed
    assert there.removed == back.added
    turned = [
        Difference(each.path, each.after, each.before) for found in back.changed for each in found.properties
    ]
    assert [each for found in there.changed for each in found.properties] == turned


def put_at(value: Any, path: str, new: Any) -> None:
    *parents, last = path.split(".")
    for part in parents:
        value = value[int(part)] if isinstance(value, list) else value[part]
    value[int(last) if isinstance(value, list) else last] = new


small = st.integers(0, 3)
trees = st.dictionaries(st.sampled_from("xyz"), small | st.lists(small, min_size=2, max_size=2))


@quick
@given(trees, trees)
def test_applying_the_differences_gives_the_other_state(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    (changed,) = compare([resource("A", properties=before)], [resource("A", properties=after)]).changed or (
        None,
    )
    patched = json.loads(json.dumps(before))
    for each in changed.properties if changed else ():
        put_at(patched, each.path, each.after)
    assert {name: value for name, value in patched.items() if value is not None} == after


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"A": 1}, {"A": 1}, []),
        ({"A": 1}, {"A": 1.0}, []),
        ({"A": 1}, {"A": True}, [("A", 1, True)]),
        ({"A": 0}, {"A": False}, [("A", 0, False)]),
        ({"A": 1}, {"A": "1"}, [("A", 1, "1")]),
        ({}, {"A": 1}, [("A", None, 1)]),
        ({"A": 1}, {}, [("A", 1, None)]),
        ({"A": {"B": [1, 2]}}, {"A": {"B": [1, 3]}}, [("A.B.1", 2, 3)]),
        ({"A": [1]}, {"A": [1, {"B": 2}]}, [("A.1", None, {"B": 2})]),
        ({"A": []}, {"A": {}}, [("A", [], {})]),
        ({"A": {"B": 1}}, {"A": "B"}, [("A", {"B": 1}, "B")]),
    ],
)
def test_differences_have_the_path_of_the_smallest_part(
    before: dict[str, Any], after: dict[str, Any], expected: list[tuple[str, Any, Any]]
) -> None:
    found = compare([resource("A", properties=before)], [resource("A", properties=after)]).changed
    assert [(d.path, d.before, d.after) for each in found for d in each.properties] == expected


def test_a_replacement_shows_beside_the_resource_that_is_still_there() -> None:
    found = compare(
        [resource("A", id="i-1")],
        [resource("A", id="i-2"), resource("A", id="i-1", superseded=True, status="deleting")],
    )
    (changed,) = found.changed
    assert changed.replaced
    assert [(d.path, d.before, d.after) for d in changed.attributes] == [("id", "i-1", "i-2")]
    assert [(each.id, each.superseded) for each in found.added] == [("i-1", True)]


KEY = SecretStr("key")


@quick
@given(json_values, json_values)
def test_a_seal_tells_equal_from_different_and_nothing_else(one: Any, other: Any) -> None:
    canonical = [json.dumps(value, sort_keys=True) for value in (one, other)]
    assert (seal(one, KEY) == seal(other, KEY)) == (canonical[0] == canonical[1])
    assert is_sealed(seal(one, KEY))
    assert seal(seal(one, KEY), KEY) == seal(one, KEY)
    assert seal(one, SecretStr("another")) != seal(one, KEY)


@pytest.mark.parametrize(
    ("path", "sealed"),
    [
        ("/properties/P", ["P"]),
        ("P", ["P"]),
        ("/properties/Absent", []),
        ("/properties/N/In", ["N.In"]),
        ("/properties/N/*", ["N.In", "N.Out"]),
        ("/properties/L/*/S", ["L.0.S", "L.1.S"]),
        ("/properties/L/S", ["L.0.S", "L.1.S"]),
        ("/properties/L", ["L"]),
        ("/properties/P/Deeper", []),
    ],
)
def test_exactly_the_values_at_a_path_are_sealed(path: str, sealed: list[str]) -> None:
    before = {"P": "s", "N": {"In": "s", "Out": "s"}, "L": [{"S": "s", "T": "t"}, {"S": "s"}]}
    untouched = json.dumps(before)
    after = seal_paths(before, [path], KEY, "A")
    found = compare([resource("A", properties=before)], [resource("A", properties=after)]).changed
    assert [d.path for each in found for d in each.properties] == sealed
    assert all(is_sealed(d.after) for each in found for d in each.properties)
    assert json.dumps(before) == untouched
