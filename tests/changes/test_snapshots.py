"""Last snapshots: what is asked of AWS, by its own service models, and how the answer is waited for."""

import asyncio
import re
import shlex
from typing import cast

import botocore.session
import pytest
from botocore import xform_name
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.changes.awsapi import answers, snapshots
from fairlead.changes.awsapi.answers import NoAnswer, error_of_code
from fairlead.changes.awsapi.snapshots import KINDS, Found, Refusal, State
from fairlead.changes.cloudcontrol import Resources
from fairlead.changes.mcp import Gateway
from fairlead.changes.model import Json
from fairlead.changes.types.traits import SNAPSHOT_TYPES
from fairlead.kernel.errors import FairleadError
from fairlead.kernel.resilience import DeadlineExceeded

DATABASE, VOLUME, GROUP = "AWS::RDS::DBInstance", "AWS::EC2::Volume", "AWS::ElastiCache::ReplicationGroup"
SOON = 90.0
GROUP_OF_ONE = {
    "ReplicationGroups": [
        {
            "MemberClusters": ["g-001", "g-002"],
            "NodeGroups": [
                {
                    "NodeGroupMembers": [
                        {"CacheClusterId": "g-001", "CurrentRole": "replica"},
                        {"CacheClusterId": "g-002", "CurrentRole": "primary"},
                    ]
                }
            ],
        }
    ]
}

# What is asked: pure.


def test_every_type_that_a_template_may_ask_a_snapshot_of_can_be_snapshotted() -> None:
    assert KINDS.keys() == SNAPSHOT_TYPES


def options(line: str) -> set[str]:
    return {word.partition("=")[0].removeprefix("--") for word in shlex.split(line) if word.startswith("--")}


@pytest.mark.parametrize("type_name", sorted(SNAPSHOT_TYPES))
def test_commands_and_answers_are_those_of_the_services_own_models(type_name: str) -> None:
    kind = KINDS[type_name]
    model = botocore.session.get_session().get_service_model(kind.service)
    operations = {xform_name(name, "-"): model.operation_model(name) for name in model.operation_names}
    lines = {
        kind.take: snapshots.take(type_name, "x", "fairlead-1", None, GROUP_OF_ONE),
        kind.look: snapshots.look(type_name, "fairlead-1", None),
    }
    if asked := snapshots.first(type_name, "x", None):
        lines[str(kind.ask_first)] = asked
    for operation, line in lines.items():
        assert line.startswith(f"aws {kind.service} {operation} ")
        known = {xform_name(name, "-") for name in operations[operation].input_shape.members}
        assert options(line) <= known
    listed = operations[kind.look].output_shape.members[kind.listed].member.members
    assert {kind.identifier, kind.status} <= listed.keys()


@pytest.mark.parametrize(
    ("cluster_mode", "told", "option"),
    [
        pytest.param(True, GROUP_OF_ONE, "--replication-group-id=g", id="cluster mode: the whole group"),
        pytest.param(False, GROUP_OF_ONE, "--cache-cluster-id=g-002", id="otherwise: its primary"),
        pytest.param(
            False,
            {"ReplicationGroups": [{"MemberClusters": ["g-001"]}]},
            "--cache-cluster-id=g-001",
            id="or, where no role is told, its first node",
        ),
    ],
)
def test_a_cache_group_is_saved_through_what_holds_its_data(
    cluster_mode: bool, told: Json, option: str
) -> None:
    group = {**told["ReplicationGroups"][0], "ClusterEnabled": cluster_mode}
    line = snapshots.take(GROUP, "g", "n", None, {"ReplicationGroups": [group]})
    assert option in shlex.split(line)


@settings(max_examples=100, deadline=None)
@given(st.text(), st.text(), st.sampled_from(sorted(SNAPSHOT_TYPES)))
def test_every_service_accepts_the_name_and_it_is_the_requests_own(
    identifier: str, token: str, type_name: str
) -> None:
    name = snapshots.snapshot_name(type_name, identifier, token)
    assert re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name)
    assert len(name) <= 40
    assert name == snapshots.snapshot_name(type_name, identifier, token)
    assert name != snapshots.snapshot_name(type_name, identifier, token + "2")


def of_volume(*states: str) -> Json:
    return {"Snapshots": [{"SnapshotId": f"snap-{state}", "State": state} for state in states]}


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (of_volume(), Found(state=State.ABSENT)),
        (error_of_code("InvalidSnapshot.NotFound", ""), Found(state=State.ABSENT)),
        (of_volume("pending"), Found(state=State.PENDING, identifier="snap-pending", status="pending")),
        (of_volume("completed"), Found(state=State.READY, identifier="snap-completed", status="completed")),
        (of_volume("error"), Found(state=State.FAILED, identifier="snap-error", status="error")),
        (
            of_volume("error", "completed", "pending"),
            Found(state=State.READY, identifier="snap-completed", status="completed"),
        ),
    ],
    ids=["none", "not found", "under way", "complete", "failed", "the best of several"],
)
def test_a_look_says_where_the_snapshot_stands(outcome: Json | FairleadError, expected: Found) -> None:
    assert snapshots.found(VOLUME, outcome) == expected


def test_a_look_that_was_refused_is_not_absence() -> None:
    with pytest.raises(answers.AccessDenied):
        snapshots.found(VOLUME, error_of_code("UnauthorizedOperation", "no"))


@pytest.mark.parametrize(
    ("code", "refusal"),
    [
        ("DBSnapshotAlreadyExists", Refusal.TAKEN),
        ("DBClusterSnapshotAlreadyExistsFault", Refusal.TAKEN),
        ("SnapshotAlreadyExistsFault", Refusal.TAKEN),
        ("ClusterSnapshotAlreadyExists", Refusal.TAKEN),
        ("DBInstanceNotFound", Refusal.GONE),
        ("DBClusterNotFoundFault", Refusal.GONE),
        ("ReplicationGroupNotFoundFault", Refusal.GONE),
        ("CacheClusterNotFound", Refusal.GONE),
        ("ClusterNotFound", Refusal.GONE),
        ("InvalidVolume.NotFound", Refusal.GONE),
        ("InvalidDBInstanceState", Refusal.BUSY),
        ("InvalidDBClusterStateFault", Refusal.BUSY),
        ("InvalidReplicationGroupState", Refusal.BUSY),
        ("InvalidCacheClusterState", Refusal.BUSY),
        ("InvalidClusterState", Refusal.BUSY),
        ("IncorrectState", Refusal.BUSY),
        ("SnapshotQuotaExceeded", Refusal.REFUSED),
        ("SnapshotFeatureNotSupportedFault", Refusal.REFUSED),
        ("InvalidParameterCombination", Refusal.REFUSED),
        ("AccessDenied", Refusal.REFUSED),
    ],
)
def test_a_refusal_says_whether_to_wait_to_go_on_or_to_stop(code: str, refusal: Refusal) -> None:
    assert snapshots.refusal(error_of_code(code, "")) is refusal


# How it is waited for: answers in an order that no sandbox gives.


class Scripted:
    """Answers looks and requests in turn; the last answer of each stays."""

    def __init__(self, looks: list[Json | FairleadError], takes: list[Json | FairleadError]) -> None:
        self.left = {"read": looks, "write": takes}
        self.asked: list[str] = []

    async def read(self, command: str) -> Json:
        return self._answer("read", command)

    async def write(self, command: str, *, safe_to_retry: bool) -> Json:
        return self._answer("write", command)

    def _answer(self, door: str, command: str) -> Json:
        self.asked.append(door)
        left = self.left[door]
        found = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(found, FairleadError):
            raise found
        return found


def saved(status: str) -> Json:
    return {"DBSnapshots": [{"DBSnapshotIdentifier": "s", "Status": status}]}


ABSENT, BUSY = error_of_code("DBSnapshotNotFound", ""), error_of_code("InvalidDBInstanceState", "backing up")
NO_ANSWER = NoAnswer("the connection broke")


def snapshot(script: Scripted, type_name: str = DATABASE, deadline_s: float = SOON) -> str | None:
    resources = Resources(cast("Gateway", script))
    return asyncio.run(resources.snapshot(type_name, "d", client_token="t", deadline_s=deadline_s))


@pytest.mark.parametrize(
    ("looks", "takes", "requests"),
    [
        pytest.param([saved("available")], [ABSENT], 0, id="an earlier try took it"),
        pytest.param([ABSENT, saved("creating"), saved("available")], [{}], 1, id="it takes a while"),
        pytest.param([ABSENT, ABSENT, saved("available")], [BUSY, {}], 2, id="a backup comes first"),
        pytest.param([ABSENT, ABSENT, saved("available")], [{}], 1, id="it shows up late"),
        pytest.param([ABSENT, NO_ANSWER, saved("available")], [{}], 1, id="a look is not answered"),
        pytest.param(
            [ABSENT, saved("available")],
            [error_of_code("DBSnapshotAlreadyExists", "")],
            1,
            id="it was there after all",
        ),
    ],
)
def test_a_snapshot_is_asked_for_until_it_begins_and_watched_until_it_ends(
    looks: list[Json | FairleadError], takes: list[Json | FairleadError], requests: int
) -> None:
    script = Scripted(looks, takes)
    assert snapshot(script) == "s"
    assert script.asked.count("write") == requests


def test_a_volumes_snapshot_whose_request_was_not_answered_is_only_looked_for() -> None:
    # Nothing keeps AWS from taking a second one.
    script = Scripted([of_volume(), of_volume(), of_volume("completed")], [NO_ANSWER])
    assert snapshot(script, VOLUME) == "snap-completed"
    assert script.asked.count("write") == 1


@pytest.mark.parametrize(
    ("looks", "takes", "error", "words"),
    [
        pytest.param([ABSENT, saved("failed")], [{}], answers.HandlerFailed, "'failed'", id="it fails"),
        pytest.param(
            [ABSENT],
            [error_of_code("SnapshotQuotaExceeded", "too many")],
            answers.AwsError,
            "too many",
            id="it is refused",
        ),
        pytest.param([NO_ANSWER], [{}], NoAnswer, "broke", id="nobody answers before it was asked for"),
        pytest.param([ABSENT, saved("creating")], [{}], DeadlineExceeded, "unknown", id="it takes too long"),
    ],
)
def test_what_became_no_snapshot_is_an_error(
    looks: list[Json | FairleadError],
    takes: list[Json | FairleadError],
    error: type[FairleadError],
    words: str,
) -> None:
    with pytest.raises(error, match=words):
        snapshot(Scripted(looks, takes), deadline_s=0.4)
