"""Reading each part of the report from AWS, page by page. Names and settings only, never contents or secrets.

A reader raises ReadFailed where it cannot go on; what it yielded before counts. A single fact that cannot be
read is None in its row, with the reason.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any, TypeVar

from fairlead.support.collect import Reads, Unreadable, details, tags_of
from fairlead.support.hazards import ADMIN_PORTS, DATABASE_PORTS, world_rules
from fairlead.support.monthly.model import (
    AdvisorCheck,
    Alarm,
    Bucket,
    Database,
    Event,
    Function,
    Instance,
    Key,
    OpenRule,
    Risk,
    Root,
    Row,
    User,
    Volume,
    Watched,
)
from fairlead.support.monthly.month import Span

GLOBAL = "global"
EVENTS_A_PAGE = 50  # what LookupEvents gives at most
CHECKS_A_CALL = 100
_GONE = ("terminated", "shutting-down")
_SWITCHES = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
_NOT_SAID = Unreadable("The answer says nothing about it.")

T = TypeVar("T")
Reader = Callable[[Reads], AsyncGenerator[Row]]


def _known(facts: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """(facts with None for what was not read, why each of those was not read)."""
    unread = {name: fact.reason for name, fact in facts.items() if isinstance(fact, Unreadable)}
    return {name: None if name in unread else fact for name, fact in facts.items()}, unread


def _said(answer: Mapping[str, Any], name: str) -> Any:
    """What an answer says about `name`: Unreadable where it says nothing."""
    found = answer.get(name)
    return _NOT_SAID if found is None else found


def _utc(moment: datetime | None) -> datetime | None:
    """`moment` in UTC: the SDK gives times in the zone of this machine."""
    return moment.astimezone(UTC) if moment else None


def _map(fact: T | Unreadable, make: Callable[[T], Any]) -> Any:
    return fact if isinstance(fact, Unreadable) else make(fact)


# ── resources of a region ─────────────────────────────────────────────────────────────────────────


async def instances(reads: Reads) -> AsyncGenerator[Instance]:
    """EC2 instances that are not gone."""
    async for reservation in reads.pages("ec2", "describe_instances", "Reservations"):
        for found in reservation.get("Instances") or ():
            if found.get("State", {}).get("Name") not in _GONE:
                yield _instance(reads, found)


def _instance(reads: Reads, found: dict[str, Any]) -> Instance:
    uid = found["InstanceId"]
    facts, unread = _known(
        {
            "imdsv2": _map(
                _said(found, "MetadataOptions"),
                lambda said: said.get("HttpEndpoint") == "disabled" or said.get("HttpTokens") == "required",
            ),
            "monitoring": _map(
                _said(found, "Monitoring"), lambda said: said.get("State") in ("enabled", "pending")
            ),
        }
    )
    return Instance(
        uid=uid,
        name=tags_of(found.get("Tags")).get("Name") or uid,
        region=reads.region,
        type=str(found.get("InstanceType", "")),
        state=str(found.get("State", {}).get("Name", "")),
        public_ip=found.get("PublicIpAddress"),
        delete_on_termination=_of_root_volume(found),
        unread=unread,
        **facts,
    )


def _of_root_volume(found: dict[str, Any]) -> bool | None:
    """Whether the root volume goes with the instance; None where the root is no EBS volume."""
    for device in found.get("BlockDeviceMappings") or ():
        if device.get("DeviceName") == found.get("RootDeviceName") and "Ebs" in device:
            return bool(device["Ebs"].get("DeleteOnTermination"))
    return None


async def volumes(reads: Reads) -> AsyncGenerator[Volume]:
    """EBS volumes."""
    async for found in reads.pages("ec2", "describe_volumes", "Volumes"):
        uid = found["VolumeId"]
        facts, unread = _known({"encrypted": _said(found, "Encrypted")})
        attached = [str(a.get("InstanceId")) for a in found.get("Attachments") or () if a.get("InstanceId")]
        yield Volume(
            uid=uid,
            name=tags_of(found.get("Tags")).get("Name") or uid,
            region=reads.region,
            size_gib=int(found.get("Size", 0)),
            type=str(found.get("VolumeType", "")),
            attached_to=attached[0] if attached else None,
            unread=unread,
            **facts,
        )


async def functions(reads: Reads) -> AsyncGenerator[Function]:
    """Lambda functions; what lies in their environment is left where it is."""
    async for found in reads.pages("lambda", "list_functions", "Functions"):
        yield Function(
            uid=found["FunctionArn"],
            name=found["FunctionName"],
            region=reads.region,
            runtime=str(found.get("Runtime") or ""),
            memory_mb=int(found.get("MemorySize", 0)),
            timeout_s=int(found.get("Timeout", 0)),
            vpc=(found.get("VpcConfig") or {}).get("VpcId") or None,
            customer_key=bool(found.get("KMSKeyArn")),
        )


async def databases(reads: Reads) -> AsyncGenerator[Database]:
    """RDS database instances."""
    async for found in reads.pages("rds", "describe_db_instances", "DBInstances"):
        facts, unread = _known(
            {
                "multi_az": _said(found, "MultiAZ"),
                "encrypted": _said(found, "StorageEncrypted"),
                "backup_days": _said(found, "BackupRetentionPeriod"),
                "deletion_protection": _said(found, "DeletionProtection"),
                "public": _said(found, "PubliclyAccessible"),
            }
        )
        yield Database(
            uid=found["DBInstanceArn"],
            name=found["DBInstanceIdentifier"],
            region=reads.region,
            engine=f"{found.get('Engine', '')} {found.get('EngineVersion', '')}".strip(),
            instance_class=str(found.get("DBInstanceClass", "")),
            in_cluster=bool(found.get("DBClusterIdentifier")),
            unread=unread,
            **facts,
        )


async def open_rules(reads: Reads) -> AsyncGenerator[OpenRule]:
    """Inbound rules of security groups that let in the whole internet, by IPv4 or IPv6."""
    async for group in reads.pages("ec2", "describe_security_groups", "SecurityGroups"):
        for permission in group.get("IpPermissions") or ():
            said = {
                str(block.get("CidrIp") or block.get("CidrIpv6")): str(block.get("Description") or "")
                for block in chain(permission.get("IpRanges") or (), permission.get("Ipv6Ranges") or ())
            }
            for protocol, first, last, block in world_rules([permission]):
                yield OpenRule(
                    uid=group["GroupId"],
                    name=str(group.get("GroupName") or group["GroupId"]),
                    region=reads.region,
                    vpc=str(group.get("VpcId") or ""),
                    protocol=_PROTOCOLS.get(protocol, protocol),
                    first_port=first,
                    last_port=last,
                    source=block,
                    risk=risk_of(protocol, first, last),
                    description=said.get(block, ""),
                )


_PROTOCOLS = {"-1": "all", "6": "tcp", "17": "udp", "1": "icmp", "58": "icmpv6"}


def risk_of(protocol: str, first: int, last: int) -> Risk:
    """What a rule for ports `first` to `last` of `protocol` ("tcp", "-1", …) opens."""
    named = _PROTOCOLS.get(protocol, protocol)
    if named == "all":
        return Risk.EVERYTHING
    if named not in ("tcp", "udp"):
        return Risk.OTHER
    if (first, last) == (0, 65535):
        return Risk.EVERYTHING
    if any(first <= port <= last for port in (*ADMIN_PORTS, *DATABASE_PORTS)):
        return Risk.SENSITIVE
    return Risk.WEB if first == last and first in (80, 443) else Risk.OTHER


async def alarms(reads: Reads) -> AsyncGenerator[Alarm]:
    """CloudWatch alarms on metrics, and those that are made of other alarms."""
    async for found in reads.pages("cloudwatch", "describe_alarms", "MetricAlarms"):
        yield _alarm(reads, found)
    composite = reads.pages("cloudwatch", "describe_alarms", "CompositeAlarms", AlarmTypes=["CompositeAlarm"])
    async for found in composite:
        yield _alarm(reads, found)


def _alarm(reads: Reads, found: dict[str, Any]) -> Alarm:
    return Alarm(
        uid=found["AlarmArn"],
        name=found["AlarmName"],
        region=reads.region,
        state=str(found["StateValue"]),
        watches=f"{found.get('Namespace', '')} {found.get('MetricName', '')}".strip(),
        since=_utc(found.get("StateTransitionedTimestamp") or found.get("StateUpdatedTimestamp")),
        has_action=bool(found.get("AlarmActions")) and bool(found.get("ActionsEnabled", True)),
    )


# ── what has no region ────────────────────────────────────────────────────────────────────────────


async def buckets(reads: Reads) -> AsyncGenerator[Bucket]:
    """Every bucket of the account, each asked in its own region."""
    account = await reads.fact(
        "s3control",
        "get_public_access_block",
        lambda answer: answer.get("PublicAccessBlockConfiguration") or {},
        absent=("NoSuchPublicAccessBlockConfiguration",),
        AccountId=reads.account,
    )

    async def look(bucket: dict[str, Any]) -> Bucket:
        return await _bucket(reads, bucket, account)

    async for found in details(reads.pages("s3", "list_buckets", "Buckets"), look):
        yield found


async def _bucket(reads: Reads, bucket: dict[str, Any], account: Any) -> Bucket:
    name = bucket["Name"]
    region = bucket.get("BucketRegion") or await reads.fact(
        "s3", "get_bucket_location", _located, Bucket=name
    )
    at = region if isinstance(region, str) else reads.region
    encryption = await reads.fact(
        "s3",
        "get_bucket_encryption",
        _algorithm,
        absent=("ServerSideEncryptionConfigurationNotFoundError",),
        at=at,
        Bucket=name,
    )
    versioning = await reads.fact(
        "s3",
        "get_bucket_versioning",
        lambda answer: str(answer.get("Status") or "off").lower(),
        at=at,
        Bucket=name,
    )
    own = await reads.fact(
        "s3",
        "get_public_access_block",
        lambda answer: answer.get("PublicAccessBlockConfiguration") or {},
        absent=("NoSuchPublicAccessBlockConfiguration",),
        at=at,
        Bucket=name,
    )
    facts, unread = _known(
        {"encryption": encryption or "none", "versioning": versioning, "blocks_public": _blocks(own, account)}
    )
    if facts["blocks_public"] is False and isinstance(account, Unreadable):
        unread["account_block"] = account.reason
    return Bucket(
        uid=f"arn:{reads.partition}:s3:::{name}",
        name=name,
        region=region if isinstance(region, str) else GLOBAL,
        unread=unread,
        **facts,
    )


def _located(answer: dict[str, Any]) -> str:
    """Region of a bucket; S3 has old names for the two that it began with."""
    place = answer.get("LocationConstraint")
    return {None: "us-east-1", "": "us-east-1", "EU": "eu-west-1"}.get(place, str(place))


def _algorithm(answer: dict[str, Any]) -> str | None:
    rules = (answer.get("ServerSideEncryptionConfiguration") or {}).get("Rules") or ()
    for rule in rules:
        if algorithm := (rule.get("ApplyServerSideEncryptionByDefault") or {}).get("SSEAlgorithm"):
            return str(algorithm)
    return None


def _blocks(own: Any, account: Any) -> Any:
    """Whether all four switches are on, on the bucket or the account; Unreadable where that decides it."""
    known = [block or {} for block in (own, account) if not isinstance(block, Unreadable)]
    if all(any(block.get(switch) for block in known) for switch in _SWITCHES):
        return True
    return own if isinstance(own, Unreadable) else False


async def root(reads: Reads) -> AsyncGenerator[Root]:
    """The root user."""
    answer = await reads.call("iam", "get_account_summary")
    summary = answer["SummaryMap"]
    yield Root(
        uid=reads.arn("iam", "root", region=""),
        name="root",
        region=GLOBAL,
        mfa=bool(summary["AccountMFAEnabled"]),
        keys=bool(summary["AccountAccessKeysPresent"]),
    )


async def users(reads: Reads) -> AsyncGenerator[User]:
    """IAM users with whether they have a password and MFA, and how old their keys are."""

    async def look(user: dict[str, Any]) -> User:
        name = user["UserName"]
        password = await reads.fact(
            "iam", "get_login_profile", lambda _: True, absent=("NoSuchEntity",), UserName=name
        )
        devices = await reads.all_of("iam", "list_mfa_devices", "MFADevices", UserName=name)
        keys = await reads.all_of("iam", "list_access_keys", "AccessKeyMetadata", UserName=name)
        facts, unread = _known(
            {
                "password": password or False,
                "mfa": _map(devices, bool),
                "keys": _map(keys, lambda found: tuple(map(_key, found))),
            }
        )
        created = _utc(user.get("CreateDate"))
        return User(uid=user["Arn"], name=name, region=GLOBAL, created=created, unread=unread, **facts)

    async for found in details(reads.pages("iam", "list_users", "Users"), look):
        yield found


def _cut(key_id: str) -> str:
    return f"…{key_id[-4:]}"


def _key(found: dict[str, Any]) -> Key:
    return Key(
        id=_cut(found["AccessKeyId"]),
        active=found["Status"] == "Active",
        created=found["CreateDate"].astimezone(UTC),
    )


async def trusted_advisor(reads: Reads) -> AsyncGenerator[AdvisorCheck]:
    """Trusted Advisor's checks and how they ended. Without Business or Enterprise support AWS refuses."""
    answer = await reads.call("support", "describe_trusted_advisor_checks", language="en")
    korean = await reads.fact(
        "support",
        "describe_trusted_advisor_checks",
        lambda said: {check["id"]: check["name"] for check in said["checks"]},
        language="ko",
    )
    names = korean if isinstance(korean, dict) else {}
    checks = {check["id"]: check for check in answer["checks"]}
    asked = list(checks)
    for at in range(0, len(asked), CHECKS_A_CALL):
        summaries = await reads.call(
            "support",
            "describe_trusted_advisor_check_summaries",
            checkIds=asked[at : at + CHECKS_A_CALL],
        )
        for summary in summaries["summaries"]:
            check = checks[summary["checkId"]]
            yield AdvisorCheck(
                uid=check["id"],
                name=check["name"],
                name_ko=names.get(check["id"], ""),
                region=GLOBAL,
                category=check["category"],
                status=summary["status"],
                flagged=int((summary.get("resourcesSummary") or {}).get("resourcesFlagged", 0)),
            )


# ── what happened ─────────────────────────────────────────────────────────────────────────────────


async def events(
    reads: Reads, watched: Sequence[Watched], span: Span, *, lookups_per_s: float
) -> AsyncGenerator[Event]:
    """The events of `watched` that CloudTrail recorded in `span`, name by name and page by page.

    AWS lets an account look up twice a second in each region, everybody together: hence `lookups_per_s`.
    """
    for kind in watched:
        more: dict[str, str] = {}
        while True:
            answer = await reads.call(
                "cloudtrail",
                "lookup_events",
                LookupAttributes=[{"AttributeKey": "EventName", "AttributeValue": kind.name}],
                StartTime=span.start,
                EndTime=span.end + timedelta(seconds=1),  # the SDK cuts times to the second
                MaxResults=EVENTS_A_PAGE,
                **more,
            )
            for found in answer.get("Events") or ():
                if found.get("EventSource") == kind.source and span.start <= found["EventTime"] < span.end:
                    yield _event(reads, kind, found)
            await asyncio.sleep(1 / lookups_per_s)
            if not answer.get("NextToken"):
                break
            more = {"NextToken": answer["NextToken"]}


def _event(reads: Reads, kind: Watched, found: dict[str, Any]) -> Event:
    record = _record(found.get("CloudTrailEvent"))
    return Event(
        uid=str(found["EventId"]),
        name=kind.name,
        region=reads.region,
        at=found["EventTime"].astimezone(UTC),
        critical=kind.critical,
        source=kind.source,
        user=_who(record.get("userIdentity"), found.get("Username")),
        address=str(record.get("sourceIPAddress") or ""),
        resources=tuple(_resource(item) for item in found.get("Resources") or () if item.get("ResourceName")),
        error=str(record.get("errorCode") or ""),
    )


def _resource(item: dict[str, Any]) -> str:
    """What an event was about; of the id of an access key only the end."""
    named = str(item["ResourceName"])
    return _cut(named) if item.get("ResourceType") == "AWS::IAM::AccessKey" else named


def _record(text: Any) -> Mapping[str, Any]:
    """CloudTrail's own record, as far as it is one: of it only who, from where and how it ended is kept."""
    try:
        found = json.loads(text or "{}")
    except (TypeError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _who(identity: Any, username: str | None) -> str:
    """ "kim", "Admin/kim" for a role with its session, "root", or the service that did it."""
    known = identity if isinstance(identity, dict) else {}
    arn = str(known.get("arn") or "")
    if ":assumed-role/" in arn:
        return arn.partition(":assumed-role/")[2]
    if known.get("type") == "Root":
        return "root"
    return str(username or known.get("userName") or known.get("invokedBy") or "")


REGIONAL: Mapping[str, Reader] = {
    "instances": instances,
    "volumes": volumes,
    "databases": databases,
    "functions": functions,
    "open_rules": open_rules,
    "alarms": alarms,
}
WORLDWIDE: Mapping[str, Reader] = {"buckets": buckets, "root": root, "users": users}
