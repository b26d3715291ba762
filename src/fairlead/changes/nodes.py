"""Which calls carry out a plan, and what each waits for. Pure: the same plan gives the same calls.

The calls form a graph of *nodes*, each with a name and a client token that stay the same on every
execution of the same run.
"""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from fairlead.changes.model import Action, Change, Properties, Recorded


class Call(StrEnum):
    """What a node does."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    FORGET = "forget"  # drop it from the state and leave it standing (DeletionPolicy: Retain)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One call of an apply."""

    name: str  # "create:Web": unique, and the same on every execution
    call: Call
    change: Change
    depends_on: tuple[str, ...]


def nodes(changes: Collection[Change], recorded: Mapping[str, Recorded]) -> dict[str, Node]:
    """The graph of calls that carries out `changes`, by name.

    Resources are made after what they refer to. Old resources go after everything that used them
    has been updated or has gone; a replacement is made first and its predecessor removed last,
    unless both cannot stand at once (`Change.delete_first`).
    """
    by_id = {change.logical_id: change for change in changes}
    dependants: dict[str, list[str]] = {}
    for known in recorded.values():
        for target in known.depends_on:
            dependants.setdefault(target, []).append(known.logical_id)
    found: dict[str, Node] = {}
    for change in changes:
        for node in _nodes_of(change, by_id, dependants):
            found[node.name] = node
    # A dependency may name a call that the plan does not hold: that resource does not change.
    needs = {name: set(node.depends_on) & found.keys() - {name} for name, node in found.items()}
    for change in changes:
        if change.action is Action.REPLACE and change.delete_first:
            _wait_for_users(change.logical_id, needs, dependants, by_id)
    return {
        name: Node(name=name, call=node.call, change=node.change, depends_on=tuple(sorted(needs[name])))
        for name, node in found.items()
    }


def _wait_for_users(
    logical_id: str,
    needs: dict[str, set[str]],
    dependants: Mapping[str, list[str]],
    by_id: Mapping[str, Change],
) -> None:
    """Let what must go first go after its users that go too, where those do not wait for its successor."""
    removal = _delete_name(logical_id)
    for user in dependants.get(logical_id, ()):
        goes = user in by_id and (by_id[user].action is Action.DELETE or by_id[user].delete_first)
        name = _delete_name(user)
        if goes and name in needs and not _reaches(name, removal, needs):
            needs[removal].add(name)


def _reaches(start: str, target: str, needs: Mapping[str, set[str]]) -> bool:
    """Whether `start` waits, directly or not, for `target`."""
    seen, open_ = {start}, [start]
    while open_:
        name = open_.pop()
        if name == target:
            return True
        fresh = needs.get(name, set()) - seen
        seen |= fresh
        open_.extend(fresh)
    return False


def _nodes_of(
    change: Change,
    by_id: Mapping[str, Change],
    dependants: Mapping[str, list[str]],
) -> list[Node]:
    logical_id = change.logical_id
    make = [_make_name(by_id[target]) for target in change.depends_on if _is_made(by_id.get(target))]
    old_users = dependants.get(logical_id, [])
    users_moved = [_make_name(by_id[user]) for user in old_users if _is_made(by_id.get(user))]
    users_gone = [_delete_name(user) for user in old_users if user in by_id]
    match change.action:
        case Action.CREATE:
            return [Node(name=_make_name(change), call=Call.CREATE, change=change, depends_on=tuple(make))]
        case Action.UPDATE:
            return [Node(name=_make_name(change), call=Call.UPDATE, change=change, depends_on=tuple(make))]
        case Action.DELETE:
            after = tuple(users_gone + users_moved)
            return [
                Node(name=_delete_name(logical_id), call=_removal(change), change=change, depends_on=after)
            ]
        case Action.REPLACE if change.delete_first:
            create_after = (*make, _delete_name(logical_id))
            return [
                Node(name=_delete_name(logical_id), call=Call.DELETE, change=change, depends_on=()),
                Node(name=_make_name(change), call=Call.CREATE, change=change, depends_on=create_after),
            ]
        case Action.REPLACE:
            after = (_make_name(change), *users_moved, *users_gone)
            return [
                Node(name=_make_name(change), call=Call.CREATE, change=change, depends_on=tuple(make)),
                Node(name=_delete_name(logical_id), call=_removal(change), change=change, depends_on=after),
            ]
        case _:
            return []


def _removal(change: Change) -> Call:
    return Call.FORGET if change.retain else Call.DELETE


def _is_made(change: Change | None) -> bool:
    return change is not None and change.action in (Action.CREATE, Action.UPDATE, Action.REPLACE)


def _make_name(change: Change) -> str:
    verb = Call.UPDATE if change.action is Action.UPDATE else Call.CREATE
    return f"{verb.value}:{change.logical_id}"


def _delete_name(logical_id: str) -> str:
    return f"delete:{logical_id}"


def client_token(run_id: str, node: str, attempt: int = 1) -> str:
    """The idempotency token of a node's call: the same on every execution of the same run."""
    return hashlib.sha256(f"{run_id}\n{node}\n{attempt}".encode()).hexdigest()


def patch(change: Change, wanted: Properties) -> list[dict[str, Any]]:
    """RFC 6902 operations that bring the changed properties to their wanted values.

    Whole top-level properties are set, not their insides: an index into a list that AWS reorders would
    hit the wrong item. `add` overwrites; `remove` only where the plan saw something. Depends on the
    plan alone, so that a repeated call carries the same body under its client token.
    """
    seen: dict[str, bool] = {}
    for item in change.properties:
        name = item.path.partition(".")[0]
        seen[name] = seen.get(name, False) or item.before is not None
    operations: list[dict[str, Any]] = []
    for name in sorted(seen):
        if name in wanted:
            operations.append({"op": "add", "path": f"/{name}", "value": wanted[name]})
        elif seen[name]:
            operations.append({"op": "remove", "path": f"/{name}"})
    return operations
