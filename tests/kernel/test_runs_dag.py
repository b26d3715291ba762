import asyncio
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.kernel.runs import NodeOutcome, NodeStatus, dag


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, list[str]]:
    names = [f"n{number:02}" for number in range(draw(st.integers(0, 12)))]
    return {
        name: draw(st.lists(st.sampled_from(names[:place]), unique=True)) if place else []
        for place, name in enumerate(names)
    }


@settings(max_examples=60, deadline=None)
@given(graph=graphs(), data=st.data(), parallelism=st.integers(1, 4))
def test_every_node_ends_as_its_ancestors_let_it(
    graph: dict[str, list[str]], data: st.DataObject, parallelism: int
) -> None:
    bad = set(data.draw(st.lists(st.sampled_from(sorted(graph)), unique=True))) if graph else set()
    running, most, begun = 0, 0, []

    async def run_node(node: str, results: Mapping[str, object]) -> NodeOutcome:
        nonlocal running, most
        assert dict(results) == {need: need for need in graph[node]}
        begun.append(node)
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        if node in bad:
            return NodeOutcome(status=NodeStatus.FAILED, problem={"code": "x"})
        return NodeOutcome(status=NodeStatus.SUCCEEDED, result=node)

    outcomes = asyncio.run(dag.run(graph, run_node, parallelism))

    assert outcomes.keys() == graph.keys()
    assert most <= parallelism
    assert len(begun) == len(set(begun))
    for node, needs in graph.items():
        if all(outcomes[need].status is NodeStatus.SUCCEEDED for need in needs):
            expected = NodeStatus.FAILED if node in bad else NodeStatus.SUCCEEDED
            assert all(begun.index(need) < begun.index(node) for need in needs)
        else:
            expected = NodeStatus.SKIPPED
            assert node not in begun
        assert outcomes[node].status is expected


async def test_what_a_node_raises_stops_the_others_and_is_raised() -> None:
    cancelled = []

    async def run_node(node: str, _results: Mapping[str, object]) -> NodeOutcome:
        if node == "a":
            await asyncio.sleep(0)
            raise LookupError("ownership lost")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(node)
            raise
        raise AssertionError("unreachable")

    with pytest.raises(LookupError):
        await dag.run({"a": [], "b": [], "c": ["b"]}, run_node, 4)
    assert cancelled == ["b"]


@pytest.mark.parametrize(
    ("graph", "said"),
    [
        pytest.param({"a": ["a"]}, "a → a", id="itself"),
        pytest.param({"a": ["b"], "b": ["c"], "c": ["a"]}, "cycle", id="a cycle of three"),
        pytest.param({"a": ["ghost"]}, "unknown nodes: ghost", id="a node that is not there"),
    ],
)
def test_a_graph_that_cannot_be_walked_is_refused(graph: dict[str, list[str]], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        dag.check(graph)
