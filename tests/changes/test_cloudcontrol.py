"""The resource verbs: the real MCP server in front of a real sandbox, checked by its own services."""

import asyncio
import json
import re
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
import pytest_asyncio

from fairlead.changes import cloudcontrol
from fairlead.changes.awsapi import answers
from fairlead.changes.awsapi.snapshots import KINDS
from fairlead.changes.cloudcontrol import Progress, Resources
from fairlead.changes.intrinsics import Secret
from fairlead.changes.model import Via
from fairlead.changes.progress import Waiting, postpone, progress_of
from fairlead.changes.types.traits import SNAPSHOT_TYPES
from fairlead.kernel import telemetry
from fairlead.kernel.clock import iso, utc_now
from fairlead.kernel.resilience import DeadlineExceeded
from tests.changes.aws_gateway import aws_settings, gateway_to
from tests.sandbox_service import SandboxProcess, start_sandbox

pytestmark = pytest.mark.asyncio(loop_scope="module")

QUEUE = "AWS::SQS::Queue"
TOPIC = "AWS::SNS::Topic"
STACK = Via.CLOUDFORMATION
SOON = 90.0


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with start_sandbox(tmp_path_factory.mktemp("sandbox"), latency_ms=5.0) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def resources(
    sandbox: SandboxProcess, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Resources]:
    settings = aws_settings(sandbox.endpoint_url, readers=1, writers=1)
    async with gateway_to(settings, tmp_path_factory.mktemp("data")) as gateway:
        yield Resources(gateway)


@pytest.fixture
def faults(sandbox: SandboxProcess) -> Iterator[Any]:
    """Puts faults in force in the sandbox; none are left afterwards."""

    def put(*active: dict[str, Any]) -> None:
        body = json.dumps({"faults": active}).encode()
        request = urllib.request.Request(f"{sandbox.endpoint_url}/_fairlead/faults", body, method="PUT")
        with urllib.request.urlopen(request) as answer:
            assert answer.status == 200

    yield put
    put()


def queues(sandbox: SandboxProcess, prefix: str) -> list[str]:
    """Addresses of queues, asked of the service itself."""
    client = boto3.client("sqs", **sandbox.aws())
    return list(client.list_queues(QueueNamePrefix=prefix).get("QueueUrls", []))


async def settled(resources: Resources, begun: Progress) -> Progress:
    """The final progress, asked for at once: the sandbox always hints at a whole second."""
    return await resources.wait(replace(begun, retry_after=None), deadline_s=SOON)


async def made(resources: Resources, name: str, **properties: Any) -> Progress:
    begun = await resources.create(QUEUE, {"QueueName": name, **properties}, client_token=f"make-{name}")
    done = await settled(resources, begun)
    assert done.status == "SUCCESS", done
    return done


async def test_a_resource_is_made_read_changed_listed_and_removed(
    resources: Resources, sandbox: SandboxProcess
) -> None:
    done = await made(resources, "life", VisibilityTimeout=31)
    identifier = done.identifier
    assert identifier is not None
    assert queues(sandbox, "life") == [identifier]
    live = await resources.read(QUEUE, identifier)
    assert live is not None
    assert live["VisibilityTimeout"] == 31
    patch = [{"op": "replace", "path": "/VisibilityTimeout", "value": 32}]
    changed = await resources.update(QUEUE, identifier, patch, client_token="change-life")
    assert (await settled(resources, changed)).status == "SUCCESS"
    attributes = boto3.client("sqs", **sandbox.aws()).get_queue_attributes(
        QueueUrl=identifier, AttributeNames=["VisibilityTimeout"]
    )
    assert attributes["Attributes"]["VisibilityTimeout"] == "32"
    assert identifier in {listed.identifier for listed in await resources.list(QUEUE)}
    gone = await resources.delete(QUEUE, identifier, client_token="remove-life")
    assert (await settled(resources, gone)).status == "SUCCESS"
    assert await resources.read(QUEUE, identifier) is None
    assert queues(sandbox, "life") == []


async def test_the_caller_is_who_the_settings_say(resources: Resources) -> None:
    assert (await resources.caller_identity()).account == "111122223333"


async def test_a_repeated_creation_is_the_same_request(resources: Resources, sandbox: SandboxProcess) -> None:
    first = await resources.create(QUEUE, {"QueueName": "again"}, client_token="again-1")
    second = await resources.create(QUEUE, {"QueueName": "again"}, client_token="again-1")
    assert second.request_token == first.request_token
    done = await settled(resources, first)
    third = await resources.create(QUEUE, {"QueueName": "again"}, client_token="again-1")
    assert (third.request_token, third.status, third.identifier) == (
        first.request_token,
        "SUCCESS",
        done.identifier,
    )
    assert len(queues(sandbox, "again")) == 1


async def test_a_token_used_for_another_request_is_refused(resources: Resources) -> None:
    await resources.create(QUEUE, {"QueueName": "token"}, client_token="token-1")
    with pytest.raises(answers.TokenConflict):
        await resources.create(QUEUE, {"QueueName": "other"}, client_token="token-1")


@pytest.mark.parametrize("fault", ["lost_answer", "throttle"])
async def test_a_creation_whose_answer_is_lost_or_refused_for_now_happens_once(
    resources: Resources, sandbox: SandboxProcess, faults: Any, fault: str
) -> None:
    name = fault.replace("_", "-")
    faults({"kind": fault, "operation": "CreateResource", "count": 1})
    await made(resources, name)
    assert len(queues(sandbox, name)) == 1


async def test_a_second_resource_of_the_same_name_fails_with_its_reason(resources: Resources) -> None:
    await made(resources, "taken")
    try:
        begun = await resources.create(QUEUE, {"QueueName": "taken"}, client_token="taken-2")
        failure = (await settled(resources, begun)).error()
    except answers.AlreadyExists as error:
        failure = error
    assert isinstance(failure, answers.AlreadyExists)


async def test_a_request_that_fails_is_returned_with_its_error(resources: Resources, faults: Any) -> None:
    faults({"kind": "fail", "operation": "CREATE", "error_code": "AccessDenied", "message": "not you"})
    begun = await resources.create(QUEUE, {"QueueName": "denied"}, client_token="denied-1")
    done = await settled(resources, begun)
    assert done.status == "FAILED"
    error = done.error()
    assert isinstance(error, answers.AccessDenied)
    assert "not you" in error.message


async def test_removing_what_is_not_there_is_done(resources: Resources) -> None:
    absent = "http://127.0.0.1/111122223333/absent"
    for token in ("absent-1", "absent-1", "absent-2"):
        begun = await resources.delete(QUEUE, absent, client_token=token)
        assert (await settled(resources, begun)).status == "SUCCESS"


async def test_reading_many_gives_what_is_there_and_none_for_what_is_not(resources: Resources) -> None:
    identifier = (await made(resources, "many")).identifier
    assert identifier is not None
    targets = [(QUEUE, f"{identifier}-{n}") for n in range(30)]
    found = await resources.read_many([(QUEUE, identifier), *targets, (QUEUE, identifier)])
    assert len(found) == 31
    assert {key for key, live in found.items() if live is not None} == {(QUEUE, identifier)}


async def test_a_type_that_aws_does_not_know_is_refused_with_its_own_error(resources: Resources) -> None:
    with pytest.raises((answers.TypeNotFound, answers.UnsupportedAction)):
        await resources.create("Nobody::Knows::This", {"A": 1}, client_token="unknown-1")


async def test_a_request_that_aws_has_forgotten_is_an_error(resources: Resources) -> None:
    with pytest.raises(answers.RequestUnknown):
        await resources.status(["00000000-0000-0000-0000-000000000000"])
    lost = Progress(
        operation="CREATE", status="IN_PROGRESS", type_name=QUEUE, identifier=None, request_token="forgotten"
    )
    with pytest.raises(answers.RequestUnknown):
        await settled(resources, lost)


def mcp_calls(pool: str) -> float:
    name = "fairlead_mcp_call_seconds_count"
    return telemetry.registry.get_sample_value(name, {"pool": pool, "tool": "call_aws"}) or 0.0


async def test_forty_waits_share_their_polls(resources: Resources) -> None:
    begun = [
        await resources.create(QUEUE, {"QueueName": f"shared-{n}"}, client_token=f"shared-{n}")
        for n in range(40)
    ]
    before = mcp_calls("reader")
    # As if none had an answer yet: each wait has to ask at least once.
    waiting = [replace(one, status="IN_PROGRESS", retry_after=None) for one in begun]
    done = await asyncio.gather(*(settled(resources, one) for one in waiting))
    assert {one.status for one in done} == {"SUCCESS"}
    assert mcp_calls("reader") - before < 40 / 4


async def test_a_wait_has_a_deadline_and_says_that_the_outcome_is_unknown(
    resources: Resources, faults: Any
) -> None:
    faults({"kind": "handler_latency", "seconds": 60, "type": QUEUE})
    begun = await resources.create(QUEUE, {"QueueName": "slow"}, client_token="slow-1")
    with pytest.raises(DeadlineExceeded, match="CREATE of AWS::SQS::Queue"):
        await resources.wait(begun, deadline_s=0.3)


async def test_large_properties_pass(resources: Resources) -> None:
    value = 'it\'s "quoted" ü\n' * 4_000
    begun = await resources.create(
        "AWS::SecretsManager::Secret",
        {"Name": "large", "Description": "d", "SecretString": value[:60_000]},
        client_token="large-1",
    )
    done = await settled(resources, begun)
    assert done.status == "SUCCESS", done


async def test_a_wait_outlasts_a_sandbox_that_is_killed_and_comes_back(
    resources: Resources, sandbox: SandboxProcess, faults: Any
) -> None:
    faults({"kind": "handler_latency", "seconds": 1.5, "type": QUEUE})
    begun = await resources.create(QUEUE, {"QueueName": "phoenix"}, client_token="phoenix-1")
    waiting = asyncio.create_task(resources.wait(replace(begun, retry_after=None), deadline_s=SOON))
    await asyncio.to_thread(sandbox.kill)
    await asyncio.to_thread(sandbox.restart)
    assert (await waiting).status == "SUCCESS"
    assert len(queues(sandbox, "phoenix")) == 1


# The fallback: one-resource stacks behind the same verbs.


async def test_a_stack_carries_a_resource_through_the_same_verbs_each_repeated(
    resources: Resources, sandbox: SandboxProcess
) -> None:
    for _ in range(2):
        begun = await resources.create(TOPIC, {"TopicName": "stacked"}, client_token="s-1", via=STACK)
    done = await settled(resources, begun)
    assert done.status == "SUCCESS", done
    identifier = done.identifier or ""
    stack, _, arn = identifier.partition("|")
    assert stack.startswith("fairlead-")
    topics = boto3.client("sns", **sandbox.aws())
    assert arn in {topic["TopicArn"] for topic in topics.list_topics()["Topics"]}

    patch = [{"op": "add", "path": "/DisplayName", "value": "Shown"}]
    for _ in range(2):
        begun = await resources.update(TOPIC, identifier, patch, client_token="s-2", via=STACK)
    assert (await settled(resources, begun)).status == "SUCCESS"
    assert topics.get_topic_attributes(TopicArn=arn)["Attributes"]["DisplayName"] == "Shown"
    live = await resources.read(TOPIC, identifier, via=STACK)
    assert live == {"TopicName": "stacked", "DisplayName": "Shown"}

    for _ in range(2):
        begun = await resources.delete(TOPIC, identifier, client_token="s-3", via=STACK)
        assert (await settled(resources, begun)).status == "SUCCESS"
    assert await resources.read(TOPIC, identifier, via=STACK) is None
    assert arn not in {topic["TopicArn"] for topic in topics.list_topics()["Topics"]}


async def test_a_stack_update_without_a_change_is_done(resources: Resources) -> None:
    begun = await resources.create(TOPIC, {"TopicName": "same"}, client_token="same-1", via=STACK)
    identifier = (await settled(resources, begun)).identifier or ""
    patch = [{"op": "replace", "path": "/TopicName", "value": "same"}]
    begun = await resources.update(TOPIC, identifier, patch, client_token="same-2", via=STACK)
    assert (await settled(resources, begun)).status == "SUCCESS"


async def test_a_stack_takes_secrets_as_parameters_that_aws_does_not_show(
    resources: Resources, sandbox: SandboxProcess
) -> None:
    ssm, stacks = (boto3.client(name, **sandbox.aws()) for name in ("ssm", "cloudformation"))
    properties = {
        "Name": "/stacked/p",
        "Type": "String",
        "Value": Secret("t0p, s3cret=1"),
        "Description": "one",
    }
    begun = await resources.create("AWS::SSM::Parameter", properties, client_token="hush-1", via=STACK)
    done = await settled(resources, begun)
    assert done.status == "SUCCESS", done
    identifier = done.identifier or ""
    assert ssm.get_parameter(Name="/stacked/p")["Parameter"]["Value"] == "t0p, s3cret=1"

    patch = [{"op": "add", "path": "/Description", "value": "two"}]
    begun = await resources.update("AWS::SSM::Parameter", identifier, patch, client_token="hush-2", via=STACK)
    assert (await settled(resources, begun)).status == "SUCCESS"
    assert ssm.get_parameter(Name="/stacked/p")["Parameter"]["Value"] == "t0p, s3cret=1"
    patch = [{"op": "add", "path": "/Value", "value": Secret("an0ther-s3cret")}]
    begun = await resources.update("AWS::SSM::Parameter", identifier, patch, client_token="hush-3", via=STACK)
    assert (await settled(resources, begun)).status == "SUCCESS"
    assert ssm.get_parameter(Name="/stacked/p")["Parameter"]["Value"] == "an0ther-s3cret"

    live = await resources.read("AWS::SSM::Parameter", identifier, via=STACK)
    assert live == {"Name": "/stacked/p", "Type": "String", "Value": "****", "Description": "two"}
    name = identifier.partition("|")[0]
    shown = [stacks.describe_stacks(StackName=name), stacks.get_template(StackName=name)]
    assert "s3cret" not in str(shown)


async def test_a_type_that_stacks_cannot_make_either_is_refused(resources: Resources) -> None:
    with pytest.raises(answers.InvalidRequest, match="Unrecognized resource types"):
        await resources.create("Nobody::Knows::This", {}, client_token="nobody-1", via=STACK)


async def test_a_stack_that_fails_tells_why_and_leaves_nothing(
    resources: Resources, sandbox: SandboxProcess
) -> None:
    subnet = {"VpcId": "vpc-none", "CidrBlock": "10.0.0.0/24"}
    begun = await resources.create("AWS::EC2::Subnet", subnet, client_token="fails-1", via=STACK)
    done = await settled(resources, begun)
    assert done.status == "FAILED"
    assert isinstance(done.error(), answers.HandlerFailed)
    assert "vpc-none" in (done.message or "")
    client = boto3.client("cloudformation", **sandbox.aws())
    standing = client.list_stacks(StackStatusFilter=["ROLLBACK_COMPLETE", "CREATE_FAILED"])
    assert standing["StackSummaries"] == []


async def test_a_stack_that_never_was_has_no_resource(resources: Resources) -> None:
    assert await resources.read(TOPIC, "fairlead-never|arn", via=STACK) is None
    begun = await resources.delete(TOPIC, "fairlead-never|arn", client_token="never-1", via=STACK)
    assert (await settled(resources, begun)).status == "SUCCESS"


# Progress events: pure.


async def test_aws_may_ask_not_to_be_asked_again_before_a_moment() -> None:
    later = utc_now() + timedelta(seconds=30)
    event = {"Operation": "CREATE", "OperationStatus": "IN_PROGRESS", "RequestToken": "t"}
    progress = progress_of({**event, "RetryAfter": iso(later)})
    waiting = Waiting("t", asyncio.get_running_loop().create_future(), due=0.0)
    postpone(waiting, progress.retry_after, now=100.0)
    assert 129.0 < waiting.due <= 130.0


async def test_a_deletion_that_finds_nothing_counts_as_done() -> None:
    event = {"Operation": "DELETE", "OperationStatus": "FAILED", "ErrorCode": "NotFound", "RequestToken": "t"}
    progress = progress_of(event)
    assert (progress.status, progress.error()) == ("SUCCESS", None)


async def test_pauses_between_polls_grow_to_five_seconds() -> None:
    waiting = Waiting("t", asyncio.get_running_loop().create_future(), due=0.0)
    dues = []
    for _ in range(12):
        postpone(waiting, None, now=0.0)
        dues.append(waiting.due)
    assert dues[0] == pytest.approx(0.1)
    assert dues == sorted(dues)
    assert dues[-1] == 5.0


async def test_the_folder_of_the_launcher_travels_with_the_package() -> None:
    assert (Path(cloudcontrol.__file__).parent / "awsapi" / "launch.py").is_file()


# Last snapshots, of resources that their own services made.

VOLUME, GROUP, DATABASE = "AWS::EC2::Volume", "AWS::ElastiCache::ReplicationGroup", "AWS::RDS::DBInstance"


def made_natively(sandbox: SandboxProcess, type_name: str) -> str:
    """A resource of the type, made by its own service; its identifier."""

    def client(service: str) -> Any:
        return boto3.client(service, **sandbox.aws())

    name = re.sub(r"\W+", "-", type_name).lower()
    login = {"MasterUsername": "owner", "MasterUserPassword": "password-12"}
    match type_name:
        case "AWS::RDS::DBInstance":
            client("rds").create_db_instance(
                DBInstanceIdentifier=name,
                Engine="postgres",
                DBInstanceClass="db.t3.micro",
                AllocatedStorage=20,
                **login,
            )
        case "AWS::RDS::DBCluster":
            client("rds").create_db_cluster(DBClusterIdentifier=name, Engine="aurora-postgresql", **login)
        case "AWS::Neptune::DBCluster":
            client("neptune").create_db_cluster(DBClusterIdentifier=name, Engine="neptune")
        case "AWS::EC2::Volume":
            return str(client("ec2").create_volume(AvailabilityZone="us-east-1a", Size=1)["VolumeId"])
        case "AWS::ElastiCache::ReplicationGroup":
            name = "group"
            client("elasticache").create_replication_group(
                ReplicationGroupId=name,
                ReplicationGroupDescription="x",
                Engine="redis",
                CacheNodeType="cache.t3.micro",
                NumCacheClusters=1,
            )
        case "AWS::ElastiCache::CacheCluster":
            name = "cache"
            client("elasticache").create_cache_cluster(
                CacheClusterId=name, Engine="redis", CacheNodeType="cache.t3.micro", NumCacheNodes=1
            )
    return name


def snapshots_of(sandbox: SandboxProcess, type_name: str) -> list[tuple[str, str]]:
    """Identifier and status of every snapshot, asked of the service itself."""
    kind = KINDS[type_name]
    client = boto3.client(kind.service, **sandbox.aws())
    found = getattr(client, kind.look.replace("-", "_"))(
        **({"OwnerIds": ["self"]} if type_name == VOLUME else {})
    )
    return [(item[kind.identifier], item[kind.status]) for item in found[kind.listed]]


def hits(sandbox: SandboxProcess) -> list[int]:
    """How often each fault that is in force has struck."""
    with urllib.request.urlopen(f"{sandbox.endpoint_url}/_fairlead/faults") as answer:
        return [fault["hits"] for fault in json.load(answer)["faults"]]


# The sandbox has no Redshift, and its DocumentDB has no snapshots.
SNAPSHOTS = sorted(SNAPSHOT_TYPES - {"AWS::Redshift::Cluster", "AWS::DocDB::DBCluster"})


@pytest.mark.parametrize("type_name", SNAPSHOTS)
async def test_a_snapshot_is_taken_once_per_token(
    resources: Resources, sandbox: SandboxProcess, type_name: str
) -> None:
    identifier = made_natively(sandbox, type_name)
    before = snapshots_of(sandbox, type_name)
    first = await resources.snapshot(type_name, identifier, client_token="one", deadline_s=SOON)
    again = await resources.snapshot(type_name, identifier, client_token="one", deadline_s=SOON)
    assert first == again
    other = await resources.snapshot(type_name, identifier, client_token="two", deadline_s=SOON)
    assert other != first
    new = set(snapshots_of(sandbox, type_name)) - set(before)
    assert {name for name, _ in new} == {first, other}
    assert {status for _, status in new} <= {"available", "completed"}


@pytest.mark.parametrize("type_name", [DATABASE, GROUP])
async def test_what_is_gone_gets_no_snapshot(resources: Resources, type_name: str) -> None:
    assert await resources.snapshot(type_name, "nobody", client_token="x", deadline_s=SOON) is None


async def test_a_volumes_snapshot_whose_answer_is_lost_is_taken_once(
    resources: Resources, sandbox: SandboxProcess, faults: Any
) -> None:
    volume = made_natively(sandbox, VOLUME)
    faults({"kind": "lost_answer", "operation": "CreateSnapshot", "count": 1})
    taken = await resources.snapshot(VOLUME, volume, client_token="lost", deadline_s=SOON)
    client = boto3.client("ec2", **sandbox.aws())
    found = client.describe_snapshots(Filters=[{"Name": "volume-id", "Values": [volume]}])["Snapshots"]
    assert [item["SnapshotId"] for item in found] == [taken]
    assert hits(sandbox) == [1], "the answer was not lost"
