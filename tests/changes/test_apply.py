"""Which calls an apply makes and in which order: decided by pure functions, so tested as tables."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.changes.model import Action, Change, Desired, PropertyChange, Recorded, Replacement
from fairlead.changes.nodes import Call, client_token, nodes, patch
from fairlead.changes.outcome import recorded_of, snapshot
from fairlead.changes.state import ResourceStatus, State, StateResource, StateVersion, state_resource
from fairlead.changes.types.arns import Arns
from fairlead.changes.work import Work, wants_snapshot


def change(
    logical_id: str,
    action: Action,
    depends_on: Sequence[str] = (),
    *,
    delete_first: bool = False,
    retain: bool = False,
) -> Change:
    return Change(
        logical_id=logical_id,
        type="AWS::SQS::Queue",
        action=action,
        replacement=Replacement.ALWAYS if action is Action.REPLACE else Replacement.NEVER,
        depends_on=tuple(depends_on),
        delete_first=delete_first,
        retain=retain,
    )


def recorded(logical_id: str, depends_on: Sequence[str] = ()) -> Recorded:
    return Recorded(
        logical_id=logical_id,
        type="AWS::SQS::Queue",
        identifier=logical_id.lower(),
        properties={},
        observed={},
        depends_on=tuple(depends_on),
    )


def edges(changes: Sequence[Change], known: Sequence[Recorded] = ()) -> dict[str, tuple[str, ...]]:
    found = nodes(changes, {item.logical_id: item for item in known})
    return {name: node.depends_on for name, node in found.items()}


def test_creates_wait_for_what_they_refer_to() -> None:
    assert edges([change("Vpc", Action.CREATE), change("Subnet", Action.CREATE, ["Vpc"])]) == {
        "create:Vpc": (),
        "create:Subnet": ("create:Vpc",),
    }


def test_a_dependency_that_does_not_change_is_not_waited_for() -> None:
    assert edges(
        [change("Subnet", Action.UPDATE, ["Vpc"])], [recorded("Vpc"), recorded("Subnet", ["Vpc"])]
    ) == {"update:Subnet": ()}


def test_deletes_go_dependants_first() -> None:
    assert edges(
        [change("Subnet", Action.DELETE), change("Vpc", Action.DELETE)],
        [recorded("Vpc"), recorded("Subnet", ["Vpc"])],
    ) == {"delete:Subnet": (), "delete:Vpc": ("delete:Subnet",)}


def test_a_resource_is_deleted_only_after_its_former_user_has_moved_away() -> None:
    assert edges(
        [change("Queue", Action.DELETE), change("Alarm", Action.UPDATE)],
        [recorded("Queue"), recorded("Alarm", ["Queue"])],
    ) == {"delete:Queue": ("update:Alarm",), "update:Alarm": ()}


def test_a_replacement_is_made_first_and_its_predecessor_removed_when_nobody_uses_it_any_more() -> None:
    assert edges(
        [change("Role", Action.REPLACE), change("Function", Action.UPDATE, ["Role"])],
        [recorded("Role"), recorded("Function", ["Role"])],
    ) == {
        "create:Role": (),
        "update:Function": ("create:Role",),
        "delete:Role": ("create:Role", "update:Function"),
    }


def test_a_replacement_with_a_fixed_name_is_removed_first() -> None:
    assert edges([change("Table", Action.REPLACE, delete_first=True)], [recorded("Table")]) == {
        "delete:Table": (),
        "create:Table": ("delete:Table",),
    }


def test_chained_replacements_with_fixed_names_have_no_cycle() -> None:
    found = edges(
        [
            change("Vpc", Action.REPLACE, delete_first=True),
            change("Subnet", Action.REPLACE, ["Vpc"], delete_first=True),
            change("Server", Action.REPLACE, ["Subnet"]),
        ],
        [recorded("Vpc"), recorded("Subnet", ["Vpc"]), recorded("Server", ["Subnet"])],
    )
    assert_acyclic(found)
    assert found["delete:Vpc"] == ("delete:Subnet",)


def test_what_must_go_first_does_not_wait_for_a_user_that_waits_for_its_successor() -> None:
    found = edges(
        [
            change("Name", Action.REPLACE, delete_first=True),
            change("Old", Action.DELETE),
            change("User", Action.UPDATE, ["Name"]),
        ],
        [recorded("Name"), recorded("Old", ["Name"]), recorded("User", ["Old"])],
    )
    assert_acyclic(found)
    assert found["delete:Old"] == ("update:User",)
    assert found["delete:Name"] == ()


def test_a_retained_resource_is_forgotten_instead_of_deleted() -> None:
    found = nodes([change("Bucket", Action.DELETE, retain=True)], {"Bucket": recorded("Bucket")})
    assert found["delete:Bucket"].call is Call.FORGET


@pytest.mark.parametrize(
    ("paths", "wanted", "expected"),
    [
        pytest.param(
            {"A.0.B": (1, 2)}, {"A": [{"B": 2}]}, [("add", "/A", [{"B": 2}])], id="a whole property is set"
        ),
        pytest.param({"A": (1, None)}, {}, [("remove", "/A", None)], id="what the plan saw is removed"),
        pytest.param({"A": (None, None)}, {}, [], id="what the plan did not see is left alone"),
        pytest.param(
            {"A.x": (1, 2), "A.y": (3, None)},
            {"A": {"x": 2}},
            [("add", "/A", {"x": 2})],
            id="once a property",
        ),
    ],
)
def test_a_patch_follows_from_the_plan_alone(
    paths: dict[str, tuple[object, object]],
    wanted: dict[str, object],
    expected: list[tuple[str, str, object]],
) -> None:
    planned = Change(
        logical_id="X",
        type="AWS::SQS::Queue",
        action=Action.UPDATE,
        replacement=Replacement.NEVER,
        properties=tuple(
            PropertyChange(path=path, before=before, after=after, replacement=Replacement.NEVER)
            for path, (before, after) in paths.items()
        ),
    )
    assert [(op["op"], op["path"], op.get("value")) for op in patch(planned, wanted)] == expected


def test_client_tokens_are_stable_and_distinct() -> None:
    assert client_token("r1", "create:A") == client_token("r1", "create:A")
    assert len({client_token(run, node) for run in ("r1", "r2") for node in ("create:A", "delete:A")}) == 4


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_every_mixture_of_actions_gives_an_acyclic_graph(data: st.DataObject) -> None:
    names = [f"R{i}" for i in range(data.draw(st.integers(1, 7)))]
    actions = [Action.CREATE, Action.UPDATE, Action.REPLACE, Action.DELETE, Action.NO_OP]
    changes, known = [], []
    for position, name in enumerate(names):
        action = data.draw(st.sampled_from(actions))
        now = data.draw(st.lists(st.sampled_from(names[:position]), unique=True)) if position else []
        before = data.draw(st.lists(st.sampled_from(names[:position]), unique=True)) if position else []
        if action is not Action.NO_OP:
            first = action is Action.REPLACE and data.draw(st.booleans())
            changes.append(
                change(name, action, now if action is not Action.DELETE else (), delete_first=first)
            )
        if action is not Action.CREATE:
            known.append(recorded(name, before))
    assert_acyclic(edges(changes, known))


def assert_acyclic(found: dict[str, tuple[str, ...]]) -> None:
    left = dict(found)
    while left:
        free = [name for name, needs in left.items() if not any(need in left for need in needs)]
        assert free, f"a cycle among {sorted(left)}"
        for name in free:
            del left[name]


# --- what the next state version says ------------------------------------------------------------

NOW = datetime(2026, 11, 20, tzinfo=UTC)


def state_of(*resources: StateResource) -> State:
    about = StateVersion(
        project="p",
        version=1,
        sha256="",
        previous_sha256=None,
        actor="ann",
        description="",
        timestamp=NOW,
        nonce="n",
        run_id=None,
        plan_id=None,
        plan_digest=None,
        resource_count=len(resources),
        size_bytes=0,
        address="",
    )
    return State(about, resources)


def standing(logical_id: str, identifier: str, *, superseded: bool = False) -> StateResource:
    known = replace(recorded(logical_id), identifier=identifier)
    return state_resource(
        known,
        region="us-east-1",
        status=ResourceStatus.ACTIVE,
        created_at=NOW,
        updated_at=NOW,
        superseded=superseded,
    )


def work_of(changes: Sequence[Change], base: Sequence[StateResource], *wanted: Desired) -> Work:
    """An apply of `changes` on `base`; templates want plain queues where `wanted` does not say more."""
    state = state_of(*base) if base else None
    known = recorded_of(state)
    plain = {c.logical_id: desired(c.logical_id) for c in changes if c.action is not Action.DELETE}
    return Work(
        changes=tuple(changes),
        graph=nodes(changes, known),
        desired=plain | {item.logical_id: item for item in wanted},
        recorded=known,
        base=state,
        live={},
        outputs={},
        dependencies={},
        referred_to=frozenset(),
        arns=Arns("aws", "us-east-1", "111122223333"),
        description="",
        number=1,
        digest="d",
    )


def recorded_after(
    changes: Sequence[Change], base: Sequence[StateResource], ended: dict[str, tuple[str, str | None]]
) -> dict[str, str]:
    """`logical id` (or `logical id~identifier` where superseded) → `identifier status`."""
    work = work_of(changes, base)
    ends: dict[str, dict[str, Any]] = {
        name: {
            "status": status,
            "result": {"identifier": identifier, "properties": {}, "observed": {}}
            if status == "succeeded"
            else None,
            "problem": {"details": {"identifier": identifier} if identifier else {}}
            if status == "failed"
            else None,
        }
        for name, (status, identifier) in ended.items()
    }
    assert ends.keys() == work.graph.keys()
    made = snapshot(work, ends, {}, region="us-east-1", now=NOW, actor="ann", run_id="r")
    return {
        f"{item.logical_id}~{item.id}"
        if item.superseded
        else item.logical_id: f"{item.id} {item.status.value}"
        for item in made.resources
    }


def desired(logical_id: str) -> Desired:
    return Desired(logical_id=logical_id, type="AWS::SQS::Queue", properties={}, dynamic=False, depends_on=())


CREATE, UPDATE, REMOVE = change("A", Action.CREATE), change("A", Action.UPDATE), change("A", Action.DELETE)
REPLACE, IN_PLACE = change("A", Action.REPLACE), change("A", Action.REPLACE, delete_first=True)
OLD = standing("A", "old")


@pytest.mark.parametrize(
    ("planned", "base", "ended", "expected"),
    [
        pytest.param(CREATE, (), {"create:A": ("succeeded", "new")}, {"A": "new active"}, id="created"),
        pytest.param(CREATE, (), {"create:A": ("failed", None)}, {}, id="creation failed without a trace"),
        pytest.param(
            CREATE,
            (),
            {"create:A": ("failed", "half")},
            {"A": "half error"},
            id="creation failed and left something",
        ),
        pytest.param(CREATE, (), {"create:A": ("skipped", None)}, {}, id="creation skipped"),
        pytest.param(UPDATE, (OLD,), {"update:A": ("succeeded", "old")}, {"A": "old active"}, id="updated"),
        pytest.param(UPDATE, (OLD,), {"update:A": ("failed", None)}, {"A": "old error"}, id="update failed"),
        pytest.param(REMOVE, (OLD,), {"delete:A": ("succeeded", "old")}, {}, id="deleted"),
        pytest.param(
            REMOVE, (OLD,), {"delete:A": ("failed", None)}, {"A": "old error"}, id="deletion failed"
        ),
        pytest.param(
            REMOVE, (OLD,), {"delete:A": ("cancelled", None)}, {"A": "old active"}, id="deletion cancelled"
        ),
        pytest.param(
            REPLACE,
            (OLD,),
            {"create:A": ("succeeded", "new"), "delete:A": ("succeeded", "old")},
            {"A": "new active"},
            id="replaced",
        ),
        pytest.param(
            REPLACE,
            (OLD,),
            {"create:A": ("succeeded", "new"), "delete:A": ("failed", None)},
            {"A": "new active", "A~old": "old error"},
            id="replaced, and the old one still stands",
        ),
        pytest.param(
            REPLACE,
            (OLD,),
            {"create:A": ("failed", None), "delete:A": ("skipped", None)},
            {"A": "old active"},
            id="replacement failed",
        ),
        pytest.param(
            REPLACE,
            (OLD,),
            {"create:A": ("failed", "half"), "delete:A": ("skipped", None)},
            {"A": "half error", "A~old": "old active"},
            id="replacement failed and left something",
        ),
        pytest.param(
            IN_PLACE,
            (OLD,),
            {"delete:A": ("succeeded", "old"), "create:A": ("failed", None)},
            {},
            id="removed first, and its successor failed",
        ),
        pytest.param(
            change("A~old", Action.DELETE),
            (standing("A", "new"), standing("A", "old", superseded=True)),
            {"delete:A~old": ("succeeded", "old")},
            {"A": "new active"},
            id="what an earlier apply left is removed",
        ),
    ],
)
def test_the_state_says_what_happened(
    planned: Change,
    base: tuple[StateResource, ...],
    ended: dict[str, tuple[str, str | None]],
    expected: dict[str, str],
) -> None:
    assert recorded_after([planned], base, ended) == expected


# --- last snapshots ------------------------------------------------------------------------------

VOLUME, QUEUE = "AWS::EC2::Volume", "AWS::SQS::Queue"


def kept_by(deletion: str, type_name: str = VOLUME) -> StateResource:
    """Resource A as recorded with this DeletionPolicy."""
    return msgspec.structs.replace(OLD, type=type_name, deletion_policy=deletion)


def replaced_by(policy: str) -> Desired:
    return replace(desired("A"), type=VOLUME, update_replace_policy=policy)


@pytest.mark.parametrize(
    ("planned", "old", "new", "expected"),
    [
        pytest.param(REMOVE, kept_by("Snapshot"), (), True, id="deletion, policy Snapshot"),
        pytest.param(REMOVE, kept_by("Delete"), (), False, id="deletion, policy Delete"),
        pytest.param(
            REPLACE, kept_by("Delete"), (replaced_by("Snapshot"),), True, id="replacement, Snapshot"
        ),
        pytest.param(
            IN_PLACE, kept_by("Delete"), (replaced_by("Snapshot"),), True, id="the old one goes first"
        ),
        pytest.param(
            REPLACE,
            kept_by("Snapshot"),
            (replaced_by("Delete"),),
            False,
            id="only the new UpdateReplacePolicy counts in a replacement",
        ),
        pytest.param(
            REPLACE,
            kept_by("Delete", QUEUE),
            (replaced_by("Snapshot"),),
            False,
            id="the old one is of a type without snapshots",
        ),
    ],
)
def test_the_policy_in_force_decides_about_a_last_snapshot(
    planned: Change, old: StateResource, new: tuple[Desired, ...], expected: bool
) -> None:
    assert wants_snapshot(work_of([planned], [old], *new), planned) is expected


@pytest.mark.parametrize(
    ("policy", "kept"), [("Snapshot", "Snapshot"), ("Retain", "Retain"), ("Delete", "RetainExceptOnCreate")]
)
def test_a_replaced_resource_that_could_not_be_removed_stays_as_safe_as_it_was(
    policy: str, kept: str
) -> None:
    # Its snapshot failed, say. The next plan deletes it, by then under its DeletionPolicy.
    work = work_of([REPLACE], [kept_by("RetainExceptOnCreate")], replaced_by(policy))
    made = {"identifier": "new", "properties": {}, "observed": {}}
    ends: dict[str, dict[str, Any]] = {
        "create:A": {"status": "succeeded", "result": made},
        "delete:A": {"status": "failed", "problem": {}},
    }
    after = snapshot(work, ends, {}, region="us-east-1", now=NOW, actor="ann", run_id="r")
    assert [item.deletion_policy for item in after.resources if item.superseded] == [kept]


@pytest.mark.parametrize(
    ("type_name", "identifier", "observed", "arn"),
    [
        pytest.param("AWS::SQS::Queue", "https://q", {"Arn": "arn:aws:sqs:q"}, "arn:aws:sqs:q", id="told"),
        pytest.param(
            "AWS::RDS::DBInstance", "db", {"DBInstanceArn": "arn:aws:rds:db"}, "arn:aws:rds:db", id="own name"
        ),
        pytest.param("AWS::SNS::Topic", "arn:aws:sns:t", {}, "arn:aws:sns:t", id="the identifier"),
        pytest.param(
            "AWS::EC2::Instance",
            "i-1",
            {},
            "arn:aws:ec2:us-east-1:111122223333:instance/i-1",
            id="made of the id",
        ),
        pytest.param("AWS::EC2::Route", "rtb-1|0.0.0.0/0", {}, None, id="has none"),
        pytest.param("AWS::SQS::Queue", "https://q", {"Arn": 7}, None, id="no text"),
    ],
)
def test_the_state_says_the_arn_that_aws_gives_a_resource(
    type_name: str, identifier: str, observed: dict[str, Any], arn: str | None
) -> None:
    assert Arns("aws", "us-east-1", "111122223333").of(type_name, identifier, observed) == arn


def test_name_tags_and_arn_are_of_what_aws_says_at_the_very_end() -> None:
    work = work_of([CREATE], [])
    result = {"identifier": "https://q", "properties": {}, "observed": {}}
    ends = {"create:A": {"status": "succeeded", "result": result, "problem": None}}
    seen = {"A": {"Arn": "arn:aws:sqs:q", "QueueName": "mail", "Tags": [{"Key": "Team", "Value": "x"}]}}
    made = snapshot(work, ends, seen, region="us-east-1", now=NOW, actor="ann", run_id="r")
    [item] = made.resources
    assert (item.arn, item.name, item.tags) == ("arn:aws:sqs:q", "mail", {"Team": "x"})
    assert item.observed == seen["A"]
