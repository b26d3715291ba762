"""CloudTrail's event history: every management call that was answered, per account and region, kept on disk.

As on AWS, except that an event is there at once: events of global services lie in us-east-1, what happens
to the contents of buckets, tables and queues is no management event, secrets are not recorded, one lookup
has one attribute, a page 50 events, and nothing is older than 90 days.
"""

import base64
import hashlib
import json
import logging
import re
import sqlite3
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from ministack import app as ministack_app
from ministack.core import iam_actions, iam_evaluator, responses, router
from ministack.services import cloudtrail

from fairlead.sandbox.inside.store import StateCorrupt

_log = logging.getLogger("fairlead.sandbox")  # noqa: TID251 - no telemetry in this environment
KEPT = 200_000  # events in all; older ones go
KEPT_S = 90 * 86_400.0
PAGE = 50
_PRUNE_EVERY = 1_000
_GLOBAL = frozenset({"iam", "cloudfront", "route53", "organizations", "support"})
_SOURCES = {"cloudcontrol": "cloudcontrolapi"}
_S3_EVENTS = {  # where CloudTrail's name is not that of the permission
    "ListAllMyBuckets": "ListBuckets",
    "ListBucket": "HeadBucket",
    "GetEncryptionConfiguration": "GetBucketEncryption",
    "PutEncryptionConfiguration": "PutBucketEncryption",
    "GetLifecycleConfiguration": "GetBucketLifecycle",
    "PutLifecycleConfiguration": "PutBucketLifecycle",
    "PutReplicationConfiguration": "PutBucketReplication",
}
_LAMBDA_EVENTS = {  # CloudTrail knows Lambda's operations with the date of their API
    "AddPermission": "AddPermission20150331v2",
    "CreateEventSourceMapping": "CreateEventSourceMapping20150331",
    "CreateFunction": "CreateFunction20150331",
    "DeleteFunction": "DeleteFunction20150331",
    "ListFunctions": "ListFunctions20150331",
    "UpdateFunctionCode": "UpdateFunctionCode20150331v2",
    "UpdateFunctionConfiguration": "UpdateFunctionConfiguration20150331v2",
}
# What touches contents: data events, which the event history does not hold.
_DATA = {
    "s3": re.compile(r"Object|Multipart|^ListBucketVersions$|^RestoreObject$|Parts$"),
    "dynamodb": re.compile(r"Item|^(Query|Scan|Execute\w+|Get(Records|ShardIterator))$"),
    "sqs": re.compile(r"Message"),
    "sns": re.compile(r"^Publish"),
    "lambda": re.compile(r"^Invoke"),
    "kinesis": re.compile(r"Record|ShardIterator"),
    "logs": re.compile(r"^PutLogEvents$|^(Get|Filter)LogEvents$"),
    "monitoring": re.compile(r"^PutMetricData$|^GetMetric(Data|Statistics)$|^ListMetrics$"),
    "rds-data": re.compile(r""),
}
_READS = re.compile(r"(?:Get|List|Describe|Head|Lookup|Search|Query|Scan|BatchGet|Filter|Validate|Simulate)")
_SECRET = re.compile(
    r"password|secret|token|credential|privatekey|plaintext|signature|authorization|userdata|ciphertext",
    re.IGNORECASE,
)
_RESOURCES = {  # parameter of a request or member of an answer → type
    "AlarmName": "AWS::CloudWatch::Alarm",
    "AlarmNames": "AWS::CloudWatch::Alarm",
    "AccessKeyId": "AWS::IAM::AccessKey",
    "Bucket": "AWS::S3::Bucket",
    "DBInstanceIdentifier": "AWS::RDS::DBInstance",
    "DBSnapshotIdentifier": "AWS::RDS::DBSnapshot",
    "FunctionName": "AWS::Lambda::Function",
    "GroupId": "AWS::EC2::SecurityGroup",
    "InstanceId": "AWS::EC2::Instance",
    "KeyId": "AWS::KMS::Key",
    "LogGroupName": "AWS::Logs::LogGroup",
    "PolicyArn": "AWS::IAM::Policy",
    "QueueUrl": "AWS::SQS::Queue",
    "RoleArn": "AWS::IAM::Role",
    "RoleName": "AWS::IAM::Role",
    "SecretId": "AWS::SecretsManager::Secret",
    "SnapshotId": "AWS::EC2::Snapshot",
    "SubnetId": "AWS::EC2::Subnet",
    "TableName": "AWS::DynamoDB::Table",
    "TopicArn": "AWS::SNS::Topic",
    "UserName": "AWS::IAM::User",
    "VolumeId": "AWS::EC2::Volume",
    "VpcId": "AWS::EC2::VPC",
}
_FOLDED = {name.casefold(): kind for name, kind in _RESOURCES.items()}
_MADE = re.compile(  # identifiers that only the answer knows
    r"<(instanceId|groupId|volumeId|vpcId|subnetId|snapshotId|AccessKeyId)>([^<]{3,128})</\1>"
)
_LONGEST = 512  # characters of one parameter
_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
  id INTEGER PRIMARY KEY, account TEXT NOT NULL, region TEXT NOT NULL, time REAL NOT NULL,
  event TEXT NOT NULL, name TEXT NOT NULL, source TEXT NOT NULL, username TEXT NOT NULL,
  access_key TEXT NOT NULL, read_only TEXT NOT NULL, resources TEXT NOT NULL, record TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS of_account ON events (account, region, time);
"""
_COLUMNS = {
    "EventId": "event",
    "EventName": "name",
    "EventSource": "source",
    "Username": "username",
    "AccessKeyId": "access_key",
    "ReadOnly": "read_only",
}
_SHOWN = "id, time, event, name, source, username, access_key, read_only, resources, record"
Json = dict[str, Any]


class Trail:
    """The open event history."""

    def __init__(self, path: Path) -> None:
        """`path` is made where it is missing. Raises StateCorrupt."""
        try:
            self._db = sqlite3.connect(path, isolation_level=None)
            path.chmod(0o600)
            # A crash of the process loses nothing; a power cut may lose the last moments.
            self._db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;" + _SCHEMA)
            self._db.execute("DELETE FROM events WHERE time < ?", (time.time() - KEPT_S,))
        except sqlite3.DatabaseError as error:
            raise StateCorrupt(f"{path}: {error}") from error
        self._written = 0

    def close(self) -> None:
        self._db.close()

    def add(self, account: str, region: str, record: Json, resources: list[Json]) -> None:
        """Append one event."""
        identity = record["userIdentity"]
        self._db.execute(
            "INSERT INTO events VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                account,
                region,
                round(time.time(), 3),  # what clients give back as it was
                record["eventID"],
                record["eventName"],
                record["eventSource"],
                identity["userName"],
                identity["accessKeyId"],
                str(record["readOnly"]).lower(),
                json.dumps(resources),
                json.dumps(record),
            ),
        )
        self._written += 1
        if self._written % _PRUNE_EVERY == 0:
            self._db.execute("DELETE FROM events WHERE id <= (SELECT max(id) FROM events) - ?", (KEPT,))

    def look_up(self, account: str, region: str, body: Json) -> tuple[int, dict[str, str], bytes]:
        """LookupEvents."""
        try:
            where, values, page = _asked(body)
            before = _position(body)
        except _Refused as refusal:
            refused: tuple[int, dict[str, str], bytes] = cloudtrail._err(refusal.code, str(refusal))
            return refused
        # `where` is made of our own words; what was asked for travels as values.
        lookup = f"SELECT {_SHOWN} FROM events WHERE account = ? AND region = ? AND id < ? {where}"  # noqa: S608
        rows = self._db.execute(
            f"{lookup} ORDER BY id DESC LIMIT ?", (account, region, before, *values, page + 1)
        ).fetchall()
        answer: Json = {"Events": [_event(row) for row in rows[:page]]}
        if len(rows) > page:
            answer["NextToken"] = _token(rows[page - 1][0], body)
        found: tuple[int, dict[str, str], bytes] = cloudtrail._ok(answer)
        return found


class _Refused(ValueError):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def _asked(body: Json) -> tuple[str, list[Any], int]:
    """What a lookup asks for, as conditions, their values, and the size of a page."""
    page = body.get("MaxResults", PAGE)
    if not isinstance(page, int) or not 1 <= page <= PAGE:
        raise _Refused("InvalidMaxResultsException", f"MaxResults must be between 1 and {PAGE}.")
    start = max(float(body.get("StartTime") or 0), time.time() - KEPT_S)
    end = float(body.get("EndTime") or time.time() + 1)
    if float(body.get("StartTime") or 0) > end:
        raise _Refused("InvalidTimeRangeException", "StartTime is after EndTime.")
    attributes = body.get("LookupAttributes") or []
    if len(attributes) > 1:
        raise _Refused("InvalidLookupAttributesException", "Only one lookup attribute can be given.")
    where, values = "AND time >= ? AND time <= ?", [start, end]
    for attribute in attributes:
        key, value = attribute.get("AttributeKey"), attribute.get("AttributeValue")
        if key in _COLUMNS:
            where += f" AND {_COLUMNS[key]} = ?"
        elif key in ("ResourceName", "ResourceType"):
            where += " AND EXISTS (SELECT 1 FROM json_each(resources) WHERE value ->> ? = ?)"
            values.append(key)
        else:
            raise _Refused("InvalidLookupAttributesException", f"There is no attribute {key!r}.")
        values.append(value)
    return where, values, page


def _digest(body: Json) -> str:
    asked = {name: value for name, value in body.items() if name not in ("NextToken", "MaxResults")}
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]


def _token(last: int, body: Json) -> str:
    return base64.urlsafe_b64encode(f"{last}:{_digest(body)}".encode()).decode()


def _position(body: Json) -> int:
    """Number of the event before which the page begins."""
    token = body.get("NextToken")
    if not token:
        return 2**62
    try:
        last, digest = base64.urlsafe_b64decode(token).decode().split(":")
        position = int(last)
    except ValueError:
        digest = ""
    if digest != _digest(body):
        raise _Refused("InvalidNextTokenException", "The token is not one of this lookup.")
    return position


def _event(row: tuple[Any, ...]) -> Json:
    _, at, event, name, source, username, key, read_only, resources, record = row
    return {
        "EventId": event,
        "EventName": name,
        "ReadOnly": read_only,
        "AccessKeyId": key,
        "EventTime": at,
        "EventSource": source,
        "Username": username,
        "Resources": json.loads(resources),
        "CloudTrailEvent": record,
    }


# Recording ----------------------------------------------------------------------------------------


def install(trail: Trail) -> None:
    """Record what MiniStack answers, and look it up. Once per process."""
    cloudtrail._DISPATCH["LookupEvents"] = lambda body: trail.look_up(
        responses.get_account_id(), responses.get_region(), body
    )
    answered = ministack_app._dispatch_service_request

    async def recorded(
        method: str, path: str, headers: dict[str, str], body: bytes, query: Json, request_id: str
    ) -> tuple[int, dict[str, str], Any]:
        answer: tuple[int, dict[str, str], Any] = await answered(
            method, path, headers, body, query, request_id
        )
        try:
            call = _Call(method, path, headers, body, query, request_id)
            if name := call.event_name():
                trail.add(*_record(call, name, answer))
        except Exception:  # noqa: BLE001 - the call took effect: its answer must not be lost for this
            _log.exception("a call could not be recorded: %s %s", method, path)
        return answer

    ministack_app._dispatch_service_request = recorded


class _Call:
    """One request as it came in."""

    def __init__(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, query: Json, request: str
    ) -> None:
        self.method, self.path, self.headers, self.body = method, path, headers, body
        self.request_id = request
        self.params = ministack_app._routing_params(method, path, headers, body, query)
        self.service = router.detect_service(method, path, headers, self.params)
        self.query = query

    def event_name(self) -> str:
        """CloudTrail's name of the operation; empty where it records none."""
        if self.path.startswith("/_"):
            return ""
        _, _, name = self.path.rpartition("/operation/")  # the way that SDKs speak to CloudWatch
        if "/operation/" not in self.path:
            action = iam_actions.extract_iam_action(
                self.service, self.method, self.path, dict(self.headers), self.body, self.params
            )
            name = (action or "").partition(":")[2]
        if not name or name in ("GET", "POST", "PUT", "DELETE", "PATCH"):
            return ""
        data = _DATA.get(self.service)
        if data and data.search(name):
            return ""
        if self.service == "s3":
            if self.method == "GET" and name == "ListBucket":
                return ""  # lists objects: a data event
            return _S3_EVENTS.get(name, name)
        return _LAMBDA_EVENTS.get(name, name) if self.service == "lambda" else name

    def parameters(self) -> Json:
        """What it asks for, shortened, without secrets."""
        if self.service == "s3":
            bucket = self.path.strip("/").partition("/")[0]
            return {"Bucket": bucket} if bucket else {}
        if self.service == "lambda" and "/functions/" in self.path:
            return {"FunctionName": self.path.partition("/functions/")[2].partition("/")[0]}
        kind = self.headers.get("content-type", "")
        if kind.startswith("application/x-www-form-urlencoded"):
            form = parse_qs(self.body.decode("utf-8", "replace"))
            return {
                name: _shown(name, values[0])
                for name, values in form.items()
                if name not in ("Action", "Version")
            }
        if "json" in kind:
            try:
                asked = json.loads(self.body or b"{}")
            except ValueError:
                return {}
            return (
                {name: _shown(name, value) for name, value in asked.items()}
                if isinstance(asked, dict)
                else {}
            )
        return {}


def _shown(name: str, value: Any) -> Any:
    if _SECRET.search(name):
        return "HIDDEN_DUE_TO_SECURITY_REASONS"
    if isinstance(value, dict):
        return {str(key): _shown(str(key), item) for key, item in value.items()}
    if isinstance(value, list):
        return [_shown(name, item) for item in value[:50]]
    return value[:_LONGEST] if isinstance(value, str) else value


def _record(
    call: _Call, name: str, answer: tuple[int, dict[str, str], Any]
) -> tuple[str, str, Json, list[Json]]:
    """(account, region, event, resources) of a call that was answered."""
    status, _, content = answer
    made = status < 300 and name.startswith(("Create", "Run", "Allocate", "Copy", "Import"))
    text = _text(content) if made or status >= 400 else ""
    account = responses.get_account_id()
    region = "us-east-1" if call.service in _GLOBAL else router.extract_region(call.headers, call.query)
    parameters = call.parameters()
    record = {
        "eventVersion": "1.11",
        "userIdentity": _identity(call, account),
        "eventTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "eventSource": _source(call.service),
        "eventName": name,
        "awsRegion": region,
        "sourceIPAddress": responses.get_request_client_ip(),
        "userAgent": call.headers.get("user-agent", "")[:_LONGEST],
        **_failure(status, text),
        "requestParameters": parameters or None,
        "responseElements": None,
        "requestID": call.request_id,
        "eventID": str(uuid.uuid4()),
        "readOnly": _READS.match(name) is not None,
        "eventType": "AwsApiCall",
        "managementEvent": True,
        "recipientAccountId": account,
        "eventCategory": "Management",
    }
    return account, region, record, _resources(parameters, text if made else "")


def _text(content: Any) -> str:
    return content.decode("utf-8", "replace") if isinstance(content, bytes | bytearray) else str(content)


def _source(service: str) -> str:
    return (
        f"{_SOURCES.get(service, iam_actions.SERVICE_TO_IAM_NAMESPACE.get(service, service))}.amazonaws.com"
    )


def _identity(call: _Call, account: str) -> Json:
    key = router.extract_access_key_id(call.headers, call.query)
    caller = iam_evaluator.resolve_caller_identity(key) or {}
    arn = str(caller.get("userArn") or f"arn:aws:iam::{account}:root")
    found = {"principalId": str(caller.get("userId") or account), "arn": arn, "accountId": account}
    name = arn.rpartition("/")[2] if "/" in arn else "root"
    found |= {"accessKeyId": key, "userName": name}
    if ":assumed-role/" in arn:
        role = arn.split("/")[1]
        issuer = {"type": "Role", "arn": f"arn:aws:iam::{arn.split(':')[4]}:role/{role}", "userName": role}
        return {"type": "AssumedRole", **found, "sessionContext": {"sessionIssuer": issuer}}
    return {"type": "Root" if name == "root" else "IAMUser", **found}


def _failure(status: int, text: str) -> Json:
    """errorCode of a refused call, from any protocol's answer."""
    if status < 400:
        return {}
    found = re.search(r"<Code>([^<]+)</Code>", text) or re.search(r'"(?:__type|code)":\s*"([^"]+)"', text)
    code = found[1].rpartition("#")[2] if found else str(status)
    return {"errorCode": {"UnauthorizedOperation": "Client.UnauthorizedOperation"}.get(code, code)}


def _resources(parameters: Json, answer: str) -> list[Json]:
    """What a call is about: named in the request ("InstanceId.1" too), or made by it."""
    named: dict[tuple[str, str], None] = {}
    for name, value in parameters.items():
        kind = _FOLDED.get(name.partition(".")[0].casefold())
        for item in value if isinstance(value, list) else (value,):
            if kind and isinstance(item, str) and item:
                named[kind, item] = None
    for name, value in _MADE.findall(answer):
        named[_FOLDED[name.casefold()], value] = None
    return [{"ResourceType": kind, "ResourceName": name} for kind, name in list(named)[:20]]
