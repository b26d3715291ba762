"""What the embedded model looks up for a question it understood. Pure: the same question, the same calls.

`plan` says which calls come first, `following` which come after their results (next pages, the points of the
metrics that exist), until there are none.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

from fairlead.support.answers import inventory
from fairlead.support.answers.inventory import KINDS, Condition
from fairlead.support.answers.model import Question
from fairlead.support.answers.tools import Result
from fairlead.support.language import folded, without_orders
from fairlead.support.mentions import described_event
from fairlead.support.model import Intent, Period, Slots, Understanding
from fairlead.support.vocabulary import REGIONS

GLOBAL_REGION = "us-east-1"
DEFAULT_REGIONS = ("ap-northeast-2", GLOBAL_REGION)
MOST_REGIONS = 4  # of one answer
MOST_PAGES = 4  # of events, 50 each, per region
MOST_THINGS = 1_000  # of one kind, per region
MOST_METRICS = 20  # resources of one metric
HISTORY = timedelta(days=90)  # that CloudTrail's event history reaches back
KNOWN_REGIONS = frozenset(code for code, _ in REGIONS)
Json = dict[str, Any]


class Topic(StrEnum):
    """What is looked up."""

    EVENTS = "events"
    ALARMS = "alarms"
    ALARM_HISTORY = "alarm_history"
    METRIC = "metric"
    THINGS = "things"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of a tool."""

    tool: str
    arguments: Json
    region: str
    page: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A call and what it said."""

    call: Call
    result: Result


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that decides which calls are made and how they are told."""

    topic: Topic
    regions: tuple[str, ...]
    period: Period | None
    first: tuple[Call, ...]
    event: str | None = None
    resource: str | None = None  # a name or id that what is found must have
    user: str | None = None
    within: str | None = None  # regular expression that events' names must match
    metric: str | None = None
    kind: str | None = None
    conditions: tuple[Condition, ...] = ()
    left_out: tuple[str, ...] = ()  # regions that were not looked at
    clamped: bool = False  # the period began before the event history does
    unapplied: bool = False  # the question has a condition that these columns do not tell


# Events -------------------------------------------------------------------------------------------

_IAM_NOUNS = (
    "User|Role|Group|AccessKey|LoginProfile|MFADevice|VirtualMFADevice|UserPolicy|RolePolicy|GroupPolicy|Policy"
    "|PolicyVersion|UserToGroup|UserFromGroup|InstanceProfile|AccountAlias|AccountPasswordPolicy|Password"
    "|AssumeRolePolicy|ServiceLinkedRole|SigningCertificate|ServerCertificate|SAMLProvider|OpenIDConnectProvider"
)
_GLOBAL_EVENT = re.compile(
    rf"^(?:Create|Delete|Update|Attach|Detach|Put|Add|Remove|Enable|Deactivate|Change|Upload|Set)(?:{_IAM_NOUNS})$"
    r"|HostedZone|ResourceRecordSets|Distribution$"
)
_LAMBDA_EVENTS = {
    "CreateFunction": "CreateFunction20150331",
    "DeleteFunction": "DeleteFunction20150331",
    "UpdateFunctionCode": "UpdateFunctionCode20150331v2",
    "UpdateFunctionConfiguration": "UpdateFunctionConfiguration20150331v2",
    "AddPermission": "AddPermission20150331v2",
}
_SAME_NAME = (
    "s3 iam rds lambda dynamodb elasticache ecs eks ecr kms acm sqs sns cloudfront route53 secretsmanager"
    " redshift guardduty backup cloudtrail"
)
# Service → where its events come from, and which of them are about it.
_SOURCES: dict[str, tuple[str, str | None]] = {
    "ec2": ("ec2", "Instance|Image|Address|KeyPair|LaunchTemplate"),
    "ebs": ("ec2", "Volume|Snapshot"),
    "security_group": ("ec2", "SecurityGroup"),
    "vpc": ("ec2", "Vpc|Subnet|Route|Gateway|NetworkAcl"),
    "elb": ("elasticloadbalancing", None),
    "cloudwatch": ("monitoring", None),
    "opensearch": ("es", None),
    "efs": ("elasticfilesystem", None),
    "api_gateway": ("apigateway", None),
    "waf": ("wafv2", None),
} | {name: (name, None) for name in _SAME_NAME.split()}
_GLOBAL_SOURCES = frozenset({"iam", "cloudfront", "route53"})
_USER = re.compile(
    r"(?:\b(?:iam )?user|사용자|유저|계정 사용자)\s+[\"'`]?([a-z0-9][a-z0-9._@-]{1,62}[a-z0-9])"
    r"|what did ([a-z0-9][a-z0-9._@-]{1,62}[a-z0-9]) do\b"
    r"|([a-z0-9][a-z0-9._@-]{1,62}[a-z0-9])(?:님)?(?:이|가)\s*(?:무엇|무슨|뭘|뭐|한 (?:일|작업))",
    re.IGNORECASE,
)
_PRONOUNS = "we you they he she it someone anyone who the that this iam s3 ec2 rds"
_NO_USER = frozenset(_PRONOUNS.split())


def _user(text: str) -> str | None:
    match = _USER.search(text)
    found = next(filter(None, match.groups()), None) if match else None
    return None if found and found.casefold() in _NO_USER else found


# Metrics ------------------------------------------------------------------------------------------

# Metric → (namespace, dimension that identifies a resource, statistics to show)
_AVERAGE, _SUM, _LOW = ("Average", "Maximum"), ("Sum", "Maximum"), ("Average", "Minimum")
METRICS: dict[str, tuple[str, str, tuple[str, str]]] = {
    "CPUUtilization": ("AWS/EC2", "InstanceId", _AVERAGE),
    "CPUCreditBalance": ("AWS/EC2", "InstanceId", _LOW),
    "StatusCheckFailed": ("AWS/EC2", "InstanceId", _SUM),
    "NetworkIn": ("AWS/EC2", "InstanceId", _AVERAGE),
    "NetworkOut": ("AWS/EC2", "InstanceId", _AVERAGE),
    "mem_used_percent": ("CWAgent", "InstanceId", _AVERAGE),
    "disk_used_percent": ("CWAgent", "InstanceId", _AVERAGE),
    "FreeStorageSpace": ("AWS/RDS", "DBInstanceIdentifier", _LOW),
    "FreeableMemory": ("AWS/RDS", "DBInstanceIdentifier", _LOW),
    "DatabaseConnections": ("AWS/RDS", "DBInstanceIdentifier", _AVERAGE),
    "ReadLatency": ("AWS/RDS", "DBInstanceIdentifier", _AVERAGE),
    "WriteLatency": ("AWS/RDS", "DBInstanceIdentifier", _AVERAGE),
    "ReplicaLag": ("AWS/RDS", "DBInstanceIdentifier", _AVERAGE),
    "HTTPCode_Target_5XX_Count": ("AWS/ApplicationELB", "LoadBalancer", _SUM),
    "HTTPCode_ELB_5XX_Count": ("AWS/ApplicationELB", "LoadBalancer", _SUM),
    "HTTPCode_ELB_4XX_Count": ("AWS/ApplicationELB", "LoadBalancer", _SUM),
    "HealthyHostCount": ("AWS/ApplicationELB", "TargetGroup", _LOW),
    "ActiveConnectionCount": ("AWS/ApplicationELB", "LoadBalancer", _SUM),
    "VolumeReadOps": ("AWS/EBS", "VolumeId", _SUM),
    "VolumeWriteOps": ("AWS/EBS", "VolumeId", _SUM),
    "VolumeQueueLength": ("AWS/EBS", "VolumeId", _AVERAGE),
    "SwapUsage": ("AWS/RDS", "DBInstanceIdentifier", _AVERAGE),
    "NetworkPacketsIn": ("AWS/EC2", "InstanceId", _AVERAGE),
    "NetworkPacketsOut": ("AWS/EC2", "InstanceId", _AVERAGE),
    "IncomingLogEvents": ("AWS/Logs", "LogGroupName", _SUM),
    "IncomingBytes": ("AWS/Logs", "LogGroupName", _SUM),
    "NumberOfObjects": ("AWS/S3", "BucketName", _AVERAGE),
    "UnHealthyHostCount": ("AWS/ApplicationELB", "TargetGroup", _AVERAGE),
    "TargetResponseTime": ("AWS/ApplicationELB", "LoadBalancer", _AVERAGE),
    "RequestCount": ("AWS/ApplicationELB", "LoadBalancer", _SUM),
    "Throttles": ("AWS/Lambda", "FunctionName", _SUM),
    "ConcurrentExecutions": ("AWS/Lambda", "FunctionName", _AVERAGE),
    "Invocations": ("AWS/Lambda", "FunctionName", _SUM),
    "Duration": ("AWS/Lambda", "FunctionName", _AVERAGE),
    "Errors": ("AWS/Lambda", "FunctionName", _SUM),
    "ThrottledRequests": ("AWS/DynamoDB", "TableName", _SUM),
    "Latency": ("AWS/ApiGateway", "ApiName", _AVERAGE),
    "ApproximateAgeOfOldestMessage": ("AWS/SQS", "QueueName", _AVERAGE),
    "ApproximateNumberOfMessagesVisible": ("AWS/SQS", "QueueName", _AVERAGE),
    "CacheHitRate": ("AWS/ElastiCache", "CacheClusterId", _LOW),
    "BucketSizeBytes": ("AWS/S3", "BucketName", _AVERAGE),
    "EstimatedCharges": ("AWS/Billing", "ServiceName", ("Maximum", "Average")),
}
_OTHER_NAMESPACES = {  # CPU and memory of other services bear the same names
    ("rds", "CPUUtilization"): ("AWS/RDS", "DBInstanceIdentifier", _AVERAGE),
    ("ecs", "CPUUtilization"): ("AWS/ECS", "ServiceName", _AVERAGE),
    ("elasticache", "CPUUtilization"): ("AWS/ElastiCache", "CacheClusterId", _AVERAGE),
    ("rds", "mem_used_percent"): ("AWS/RDS", "DBInstanceIdentifier", _LOW),
    ("rds", "disk_used_percent"): ("AWS/RDS", "DBInstanceIdentifier", _LOW),
    ("elasticache", "FreeableMemory"): ("AWS/ElastiCache", "CacheClusterId", _LOW),
    ("elb", "Latency"): ("AWS/ApplicationELB", "LoadBalancer", _AVERAGE),
}
_OTHER_NAMES = {
    ("AWS/RDS", "mem_used_percent"): "FreeableMemory",
    ("AWS/RDS", "disk_used_percent"): "FreeStorageSpace",
    ("AWS/ApplicationELB", "Latency"): "TargetResponseTime",
}


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric of CloudWatch and what identifies its resources."""

    name: str
    namespace: str
    dimension: str
    statistics: tuple[str, str]


def metric_of(slots: Slots) -> Metric:
    """The metric that is meant; its namespace depends on the service that is named too."""
    asked = slots.metric or "CPUUtilization"
    known = _OTHER_NAMESPACES.get((slots.resource or "", asked)) or METRICS.get(
        asked, ("AWS/EC2", "InstanceId", _AVERAGE)
    )
    namespace, dimension, statistics = known
    return Metric(_OTHER_NAMES.get((namespace, asked), asked), namespace, dimension, statistics)


# Plans --------------------------------------------------------------------------------------------


def local_now(question: Question) -> datetime:
    """When it is asked, in the customer's time zone."""
    return question.now.astimezone(ZoneInfo(question.timezone))


def plan(question: Question, understood: Understanding) -> Plan | None:
    """What to look up, or None where the kind of thing is not clear.

    `understood` is of the intents API_ACTIVITY, MONITORING or INVENTORY, and has nothing to clarify.
    """
    text = folded(without_orders(question.text))
    if understood.intent is Intent.API_ACTIVITY:
        return _events(question, understood.slots)
    if understood.intent is Intent.MONITORING:
        return _monitoring(question, understood.slots, text)
    return _things(question, understood.slots, text)


def _regions(question: Question, slots: Slots) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(looked at, left out) where the question does not say otherwise."""
    if slots.region:
        return (slots.region,), ()
    mine = tuple(dict.fromkeys(question.regions)) or DEFAULT_REGIONS
    return mine[:MOST_REGIONS], mine[MOST_REGIONS:]


def _last(question: Question, length: timedelta) -> Period:
    now = local_now(question).replace(microsecond=0)
    return Period(start=now - length, end=now, timezone=question.timezone)


def _clamped(period: Period, question: Question) -> tuple[Period, bool]:
    """`period` as far as the event history reaches back."""
    oldest = local_now(question).replace(microsecond=0) - HISTORY
    if period.start >= oldest:
        return period, False
    start = oldest.astimezone(period.start.tzinfo)
    return replace(period, start=start, end=max(period.end, start + timedelta(seconds=1))), True


def _named(resource: str | None, question: Question) -> str | None:
    """The name or id of one thing as the question writes it; None for a service."""
    if resource is None or resource in KINDS or resource in _SOURCES:
        return None
    name = re.split(r"[/:]", resource)[-1] if resource.startswith("arn:") else resource
    written = re.search(re.escape(name), question.text, re.IGNORECASE)
    return written[0] if written else name


def _event(event: str | None, named: str | None, question: Question) -> str | None:
    """`event`, unless it was read out of the name of a thing: "acme-public" opens nothing."""
    if event is None or named is None or event.casefold() in question.text.casefold():
        return event
    return described_event(folded(without_orders(question.text).replace(named, " ")))


def _events(question: Question, slots: Slots) -> Plan:
    period, clamped = _clamped(slots.period or _last(question, timedelta(days=30)), question)
    named, user = _named(slots.resource, question), _user(without_orders(question.text))
    regions, left_out = _regions(question, slots)
    source, within = _SOURCES.get(slots.resource or "", ("", None))
    slots = replace(slots, event=_event(slots.event, named, question))
    if slots.event:
        attribute: tuple[str, str] = ("EventName", _LAMBDA_EVENTS.get(slots.event, slots.event))
    elif user:
        attribute = ("Username", user)
    elif named:
        attribute = ("ResourceName", named)
    elif source:
        attribute = ("EventSource", f"{source}.amazonaws.com")
    else:
        attribute = ("ReadOnly", "false")
    event_is_global = slots.event is not None and _GLOBAL_EVENT.search(slots.event) is not None
    if event_is_global or (slots.event is None and source in _GLOBAL_SOURCES):
        regions, left_out = (GLOBAL_REGION,), ()
    elif not slots.region and (slots.event in (None, "ConsoleLogin")) and GLOBAL_REGION not in regions:
        regions = (*regions, GLOBAL_REGION)
    calls = tuple(_lookup(region, period, attribute) for region in regions)
    return Plan(
        topic=Topic.EVENTS,
        regions=regions,
        period=period,
        first=calls,
        event=slots.event,
        resource=named,
        user=user,
        within=None if slots.event or named or user else within,
        left_out=left_out,
        clamped=clamped,
    )


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()


def _lookup(region: str, period: Period, attribute: tuple[str, str]) -> Call:
    arguments = {
        "region": region,
        "start_time": _utc(period.start),
        "end_time": _utc(period.end),
        "attribute_key": attribute[0],
        "attribute_value": attribute[1],
        "max_results": 50,
    }
    return Call(tool="lookup_events", arguments=arguments, region=region)


_LOGS = re.compile(r"log groups?|logs?(?![a-z ]*in)|로그(?!인)")
_ALARMS = re.compile(r"alarm|alert|firing|알람|경보")
_PAST = re.compile(r"history|이력|언제|울렸|울린|발생했|fired|went off|triggered|rang|changed")


_DASHED = r"[a-z0-9][a-z0-9_.]*[-_][a-z0-9._-]*[a-z0-9]"
_ALARM_NAMED = re.compile(
    rf"({_DASHED})[\"'`]?\s*(?:이?라는\s*)?(?:alarm|알람|경보)"
    rf"|(?:alarm|알람|경보)\s+(?:named\s+|called\s+)?[\"'`]?({_DASHED})",
    re.IGNORECASE,
)


def _alarm_named(text: str) -> str | None:
    """The name of an alarm: a word with dashes beside the word "alarm"."""
    match = _ALARM_NAMED.search(text)
    return (match[1] or match[2]) if match else None


def _monitoring(question: Question, slots: Slots, text: str) -> Plan:
    regions, left_out = _regions(question, slots)
    alarm = _alarm_named(without_orders(question.text))
    if slots.metric and not alarm:
        return _metric(question, slots, regions, left_out)
    if _LOGS.search(text) and not _ALARMS.search(text):
        return replace(_listed(question, "log_groups", regions, left_out, None, text), period=None)
    named = alarm or _named(slots.resource, question)
    if named and _ALARMS.search(text):
        period = slots.period or _last(question, timedelta(days=7))
        times = {"start_time": _utc(period.start), "end_time": _utc(period.end)}
        calls = tuple(
            Call(tool="get_alarm_history", region=region,
                 arguments={"alarm_name": named, "region": region, **times, "max_items": 50})
            for region in regions
        )  # fmt: skip
        return Plan(topic=Topic.ALARM_HISTORY, regions=regions, period=period, first=calls, resource=named,
                    left_out=left_out)  # fmt: skip
    calls = tuple(
        Call(tool="get_active_alarms", arguments={"region": region, "max_items": 50}, region=region)
        for region in regions
    )
    past = slots.period or (_last(question, timedelta(days=7)) if _PAST.search(text) else None)
    if past:
        calls += tuple(_alarm_changes(region, past) for region in regions)
    return Plan(topic=Topic.ALARMS, regions=regions, period=past, first=calls, left_out=left_out)


def _alarm_changes(region: str, period: Period) -> Call:
    command = (
        "aws cloudwatch describe-alarm-history --history-item-type StateUpdate"
        f" --start-date {_utc(period.start)} --end-date {_utc(period.end)} --region {region}"
        ' --query "AlarmHistoryItems[].{name:AlarmName,at:Timestamp,what:HistorySummary}"'
    )
    return Call(tool="call_aws", arguments={"command": command, "max_results": 100}, region=region)


def _metric(question: Question, slots: Slots, regions: tuple[str, ...], left_out: tuple[str, ...]) -> Plan:
    metric, named = metric_of(slots), _named(slots.resource, question)
    if metric.namespace == "AWS/Billing":
        regions, left_out = (GLOBAL_REGION,), ()
    period = slots.period or _last(question, timedelta(days=2 if metric.namespace == "AWS/S3" else 1))
    calls = tuple(
        Call(tool="call_aws", arguments={"command": _list_metrics(metric, region, named), "max_results": 500},
             region=region)
        for region in regions
    )  # fmt: skip
    return Plan(topic=Topic.METRIC, regions=regions, period=period, first=calls, metric=slots.metric,
                resource=named, kind=slots.resource, left_out=left_out)  # fmt: skip


def _list_metrics(metric: Metric, region: str, named: str | None) -> str:
    only = f" --dimensions Name={metric.dimension},Value={named}" if named and _SAFE.fullmatch(named) else ""
    return (
        f"aws cloudwatch list-metrics --namespace {metric.namespace} --metric-name {metric.name}{only}"
        f' --region {region} --query "Metrics[].Dimensions"'
    )


_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,200}")  # a name that needs no quotes in a command


def _things(question: Question, slots: Slots, text: str) -> Plan | None:
    kind = inventory.kind_of(slots.resource, text) or next(
        (name for word, name in (("사용자", "iam"), ("user", "iam")) if word in text), None
    )
    if kind is None:
        return None
    regions, left_out = _regions(question, slots)
    return _listed(question, kind, regions, left_out, slots.resource, text)


def _listed(
    question: Question, kind: str, regions: tuple[str, ...], left_out: tuple[str, ...], resource: str | None,
    text: str,
) -> Plan:  # fmt: skip
    known = KINDS[kind]
    if known.is_global:
        regions, left_out = (GLOBAL_REGION,), ()
    conditions = inventory.conditions(known, text)
    asked = any(one.words.search(text) for one in inventory.CONDITIONS)
    calls = tuple(
        Call(tool="call_aws", region=region,
             arguments={"command": inventory.command(known, region, resource), "max_results": MOST_THINGS})
        for region in regions
    )  # fmt: skip
    return Plan(
        topic=Topic.THINGS,
        regions=regions,
        period=None,
        first=calls,
        kind=kind,
        resource=_named(resource, question),
        conditions=conditions,
        left_out=left_out,
        unapplied=asked and not conditions,
    )


# What comes after ---------------------------------------------------------------------------------


def following(made: Plan, done: Sequence[Done], slots: Slots) -> tuple[Call, ...]:
    """The calls that follow from what is known; none when everything is."""
    if made.topic is Topic.EVENTS:
        return _next_pages(done)
    if made.topic is Topic.METRIC and not any(one.call.tool == "get_metric_data" for one in done):
        return _points(made, done, metric_of(slots))
    return ()


def _next_pages(done: Sequence[Done]) -> tuple[Call, ...]:
    latest = {one.call.region: one for one in done}
    return tuple(
        replace(one.call, page=one.call.page + 1,
                arguments={**one.call.arguments, "next_token": one.result.data["next_token"]})
        for one in latest.values()
        if one.result.more and one.call.page < MOST_PAGES
    )  # fmt: skip


def resources_of(done: Done, metric: Metric) -> list[list[Json]]:
    """Dimensions of each resource that has the metric, each resource once."""
    rows = done.result.data.get("rows")
    found: dict[str, list[Json]] = {}
    for dimensions in rows if isinstance(rows, list) else ():
        if not isinstance(dimensions, list):
            continue
        names = {str(one.get("Name")): str(one.get("Value")) for one in dimensions if isinstance(one, dict)}
        key = names.get(metric.dimension)
        # Where there are several series of one resource, the one with the fewest dimensions is the whole.
        if key and (key not in found or len(dimensions) < len(found[key])):
            found[key] = dimensions
    return list(found.values())


def _points(made: Plan, done: Sequence[Done], metric: Metric) -> tuple[Call, ...]:
    assert made.period is not None
    calls = []
    for one in done:
        queries: list[Json] = []
        for number, dimensions in enumerate(resources_of(one, metric)[:MOST_METRICS]):
            listed = [{"name": item["Name"], "value": item["Value"]} for item in dimensions]
            for statistic in metric.statistics:
                stat = {"namespace": metric.namespace, "metric_name": metric.name, "dimensions": listed,
                        "statistic": statistic}  # fmt: skip
                queries.append({"id": f"m{number}_{statistic.lower()}", "metric_stat": stat})
        if queries:
            arguments = {
                "region": one.call.region,
                "start_time": _utc(made.period.start),
                "end_time": _utc(made.period.end),
                "queries": queries,
                "target_datapoints": 60,
            }
            calls.append(Call(tool="get_metric_data", arguments=arguments, region=one.call.region))
    return tuple(calls)
