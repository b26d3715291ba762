"""Dependency order, cycles named by path, blast radius."""

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.changes import graph
from fairlead.changes.graph import CycleFound


@pytest.mark.parametrize(
    ("dependencies", "expected"),
    [
        pytest.param({}, [], id="nothing"),
        pytest.param({"B": ["A"], "A": []}, ["A", "B"], id="chain"),
        pytest.param({"C": [], "A": [], "B": []}, ["A", "B", "C"], id="independent, by name"),
        pytest.param({"A": ["Gone"], "B": ["A"]}, ["A", "B"], id="ids outside the graph are ignored"),
        pytest.param({"D": ["B", "C"], "C": ["A"], "B": ["A"], "A": []}, ["A", "B", "C", "D"], id="diamond"),
        pytest.param({"A": ["B", "B"], "B": []}, ["B", "A"], id="a dependency named twice"),
    ],
)
def test_order_puts_everything_after_what_it_needs(
    dependencies: dict[str, list[str]], expected: list[str]
) -> None:
    assert graph.order(dependencies) == expected


def test_levels_hold_what_can_go_at_the_same_time() -> None:
    assert graph.levels({"Web": ["Net"], "Db": ["Net"], "Net": [], "Dns": ["Web"]}) == [
        ["Net"],
        ["Db", "Web"],
        ["Dns"],
    ]


@pytest.mark.parametrize(
    ("dependencies", "circle"),
    [
        pytest.param({"A": ["A"]}, ["A", "A"], id="itself"),
        pytest.param({"A": ["B"], "B": ["A"]}, ["A", "B", "A"], id="two"),
        pytest.param(
            {"A": ["B"], "B": ["C"], "C": ["D"], "D": ["B"]},
            ["B", "C", "D", "B"],
            id="reached from outside it",
        ),
        pytest.param(
            {"Ok": [], "B": ["Ok", "C"], "C": ["B", "Ok"]}, ["B", "C", "B"], id="beside what is sound"
        ),
    ],
)
def test_a_cycle_is_reported_by_its_path(dependencies: dict[str, list[str]], circle: list[str]) -> None:
    with pytest.raises(CycleFound) as caught:
        graph.order(dependencies)
    assert caught.value.details["cycle"] == circle
    assert " → ".join(circle) in caught.value.message
    assert (caught.value.code, caught.value.status, caught.value.retryable) == ("template.cycle", 422, False)
    assert caught.value.remedy


def test_deletions_come_last_and_dependants_go_first() -> None:
    wanted = {"New": ["Kept"], "Kept": []}
    gone = {"OldNet": [], "OldWeb": ["OldNet", "Kept"], "OldDns": ["OldWeb"]}
    assert graph.apply_order(wanted, gone) == ["Kept", "New", "OldDns", "OldWeb", "OldNet"]


def test_blast_radius_counts_indirect_dependants_once() -> None:
    assert graph.dependants({"Net": [], "A": ["Net"], "B": ["Net"], "C": ["A", "B"], "Alone": ["Gone"]}) == {
        "Net": 3,
        "A": 1,
        "B": 1,
        "C": 0,
        "Alone": 0,
    }


@st.composite
def acyclic(draw: st.DrawFn) -> dict[str, list[str]]:
    """A graph without cycles, its keys in no order."""
    count = draw(st.integers(0, 14))
    names = draw(st.permutations([f"R{i}" for i in range(count)]))
    edges = {
        name: draw(st.lists(st.sampled_from(names[:i]), max_size=4)) if i else []
        for i, name in enumerate(names)
    }
    return dict(draw(st.permutations(list(edges.items()))))


@settings(deadline=None, max_examples=60)
@given(acyclic())
def test_order_respects_every_dependency_and_not_the_order_of_the_keys(
    dependencies: dict[str, list[str]],
) -> None:
    ordered = graph.order(dependencies)
    place = {name: index for index, name in enumerate(ordered)}
    assert sorted(ordered) == sorted(dependencies)
    assert all(place[need] < place[name] for name, needs in dependencies.items() for need in needs)
    assert graph.order(dict(sorted(dependencies.items()))) == ordered


@settings(deadline=None, max_examples=60)
@given(acyclic())
def test_blast_radius_equals_a_walk_from_every_node(dependencies: dict[str, list[str]]) -> None:
    def below(name: str) -> set[str]:
        users = {user for user, needs in dependencies.items() if name in needs}
        return users.union(*(below(user) for user in users)) if users else set()

    assert graph.dependants(dependencies) == {name: len(below(name)) for name in dependencies}


@settings(deadline=None, max_examples=60)
@given(acyclic(), st.randoms(use_true_random=False))
def test_a_reported_cycle_is_one(dependencies: dict[str, list[str]], chance: random.Random) -> None:
    if not dependencies:
        return
    names = sorted(dependencies)
    for _ in range(3):
        dependencies[chance.choice(names)].append(chance.choice(names))
    try:
        graph.order(dependencies)
    except CycleFound as error:
        circle = error.details["cycle"]
        assert circle[0] == circle[-1]
        assert len(circle) > 1
        assert all(need in dependencies[name] for name, need in pairwise(circle))


def test_ten_thousand_in_one_chain_are_ordered_without_recursion() -> None:
    chain = {f"R{i:05d}": [f"R{i - 1:05d}"] if i else [] for i in range(10_000)}
    assert graph.order(chain)[-1] == "R09999"
    assert graph.dependants(chain)["R00000"] == 9_999
