"""The order of things: dependency order, cycles named by path, blast radius.

A graph is a mapping `id -> ids it depends on`. Ids that are not keys themselves are ignored, so
a part of a graph is a graph. All answers are the same whatever the order of the mapping.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from fairlead.kernel.errors import FairleadError

Graph = Mapping[str, Collection[str]]


class CycleFound(FairleadError):
    """Resources depend on each other in a circle."""

    code, status, retryable = "template.cycle", 422, False


def levels(dependencies: Graph) -> list[list[str]]:
    """Ids by level: each level needs only earlier ones, sorted by name. Raises CycleFound."""
    missing, users = _edges(dependencies)
    ready = [name for name in dependencies if name not in missing]
    found: list[list[str]] = []
    while ready:
        ready.sort()
        found.append(ready)
        following: list[str] = []
        for done in ready:
            for name in users.get(done, ()):
                missing[name] -= 1
                if not missing[name]:
                    del missing[name]
                    following.append(name)
        ready = following
    if missing:
        raise _cycle(dependencies, missing)
    return found


def _edges(dependencies: Graph) -> tuple[dict[str, int], dict[str, list[str]]]:
    """How many ids each id that needs any waits for, and which ids wait for each."""
    missing: dict[str, int] = {}
    users: dict[str, list[str]] = {}
    for name, needs in dependencies.items():
        for need in needs:
            if need in dependencies:
                missing[name] = missing.get(name, 0) + 1
                if need in users:
                    users[need].append(name)
                else:
                    users[need] = [name]
    return missing, users


def order(dependencies: Graph) -> list[str]:
    """Every id after all that it depends on. Raises CycleFound."""
    return [name for level in levels(dependencies) for name in level]


def _cycle(dependencies: Graph, stuck: Collection[str]) -> CycleFound:
    """The error that names one circle among `stuck`, each of which needs another of them."""
    seen: dict[str, int] = {}
    path: list[str] = []
    name = min(stuck)
    while name not in seen:
        seen[name] = len(path)
        path.append(name)
        name = min(need for need in dependencies[name] if need in stuck)
    circle = [*path[seen[name] :], name]
    return CycleFound(
        "Resources depend on each other in a circle: " + " → ".join(circle) + ".",
        remedy="Break the circle: drop one DependsOn, or move one reference to a resource of its own "
        "(a security group rule, a policy, an attachment).",
        cycle=circle,
    )


def dependants(dependencies: Graph, ordered: Iterable[str] | None = None) -> dict[str, int]:
    """How many others depend on each id, directly or through others (its blast radius).

    Sets of descendants are big integers, one bit per id, so that all of 10,000 ids take
    milliseconds. `ordered` saves sorting again when `order(dependencies)` is at hand.
    """
    backwards = list(ordered if ordered is not None else order(dependencies))
    backwards.reverse()
    # Low bits go to the leaves: what few things depend on keeps a short integer.
    reached: dict[str, int] = {}
    counts: dict[str, int] = {}
    for bit, name in enumerate(backwards):
        below = reached.pop(name, 0)
        counts[name] = below.bit_count()
        needs = dependencies[name]
        if needs:
            below |= 1 << bit
            for need in needs:
                if need in dependencies:
                    reached[need] = reached.get(need, 0) | below
    return counts


def apply_order(wanted: Graph, gone: Graph) -> list[str]:
    """Creates, updates and replacements (`wanted`) in dependency order, then deletions (`gone`) backwards.

    `gone` is the recorded graph of what is deleted: dependants go before what they depend on.
    """
    return order(wanted) + order({k: v for k, v in gone.items() if k not in wanted})[::-1]
