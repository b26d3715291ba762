"""Walks a graph of nodes in parallel; which node may start follows from outcomes alone."""

import asyncio
import graphlib
import heapq
from collections.abc import Awaitable, Callable, Collection, Mapping

from fairlead.kernel.runs.model import Json, NodeOutcome, NodeStatus

RunNode = Callable[[str, Mapping[str, Json]], Awaitable[NodeOutcome]]


def check(dependencies: Mapping[str, Collection[str]]) -> None:
    """Raise ValueError on a cycle, named by path, or on a dependency that is no node."""
    unknown = sorted({name for needs in dependencies.values() for name in needs} - dependencies.keys())
    if unknown:
        raise ValueError(f"dependencies on unknown nodes: {', '.join(unknown)}")
    try:
        graphlib.TopologicalSorter(dependencies).prepare()
    except graphlib.CycleError as error:
        raise ValueError(f"the graph has a cycle: {' → '.join(error.args[1])}") from error


async def run(
    dependencies: Mapping[str, Collection[str]], run_node: RunNode, parallelism: int
) -> dict[str, NodeOutcome]:
    """Outcome of every node. What `run_node` raises stops all nodes and is raised."""
    walk = _Walk(dependencies)
    running: dict[asyncio.Task[NodeOutcome], str] = {}
    try:
        while True:
            while len(running) < parallelism and (node := walk.next_ready()) is not None:
                results = {need: walk.outcomes[need].result for need in dependencies[node]}
                running[asyncio.ensure_future(run_node(node, results))] = node
            if not running:
                return walk.outcomes
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                walk.finish(running.pop(task), task.result())
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


class _Walk:
    """Which nodes are ready, and how the others ended."""

    def __init__(self, dependencies: Mapping[str, Collection[str]]) -> None:
        self.outcomes: dict[str, NodeOutcome] = {}
        self._dependents: dict[str, list[str]] = {node: [] for node in dependencies}
        self._missing = {node: set(needs) for node, needs in dependencies.items()}
        for node, needs in dependencies.items():
            for need in set(needs):
                self._dependents[need].append(node)
        self._ready = sorted(node for node, needs in self._missing.items() if not needs)

    def next_ready(self) -> str | None:
        return heapq.heappop(self._ready) if self._ready else None

    def finish(self, node: str, outcome: NodeOutcome) -> None:
        """Note a node's end: its dependents become ready, or end with it."""
        ended = [(node, outcome)]
        while ended:
            node, outcome = ended.pop()
            if node in self.outcomes:
                continue
            self.outcomes[node] = outcome
            for dependent in self._dependents[node]:
                if outcome.status is NodeStatus.SUCCEEDED:
                    self._satisfy(dependent, node)
                else:
                    ended.append((dependent, _consequence(outcome)))

    def _satisfy(self, dependent: str, need: str) -> None:
        self._missing[dependent].discard(need)
        if not self._missing[dependent] and dependent not in self.outcomes:
            heapq.heappush(self._ready, dependent)


def _consequence(outcome: NodeOutcome) -> NodeOutcome:
    if outcome.status is NodeStatus.CANCELLED:
        return outcome
    return NodeOutcome(status=NodeStatus.SKIPPED)
