"""How much a change can hurt: points that add up, each with its reason. The same input, the same points.

A rule is a row or a small function here; `docs/explanation/plans.md` lists them all.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fairlead.changes.model import Action, Change, Properties, Replacement, Risk, RiskLevel, Unknown, Via
from fairlead.changes.types.traits import STATEFUL

MEDIUM_POINTS = 25
HIGH_POINTS = 60

# action -> (points, points where the resource holds data)
_ACTIONS: Mapping[Action, tuple[int, int]] = {
    Action.CREATE: (1, 2),
    Action.UPDATE: (5, 10),
    Action.REPLACE: (25, 60),
    Action.DELETE: (25, 60),
}
_CONDITIONAL = (15, 30)
_RETAINED = 5
_SNAPSHOT = -20
_PRODUCTION = 15
_DRIFT = 15
_FALLBACK = 10
_GAP = 15
_UNKNOWN = 5
_REACH_MAX = 20
_COST_USD = ((1000.0, 25), (100.0, 10))
_PRODUCTION_NAMES = frozenset({"prod", "production", "live"})
_ENVIRONMENT_TAGS = frozenset({"environment", "env", "stage"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One change and what it is judged by. Properties are resolved; None where the resource is not there."""

    change: Change
    before: Properties | None
    after: Properties | None
    dependants: int  # how many others depend on it, directly or not
    cost_delta_usd: float | None  # per month; None is unknown
    production: bool = False  # whether the project's environment says so
    snapshot: bool = False  # whether its policy asks for a last snapshot


Finding = tuple[int, str]


def assess(subject: Subject) -> Risk:
    """Points, level and reasons of one change, the weightiest first."""
    findings = [f for rule in _RULES for f in rule(subject)]
    findings.sort(key=lambda finding: (-finding[0], finding[1]))
    points = max(0, sum(points for points, _ in findings))
    return Risk(level=level(points), points=points, reasons=tuple(f"{text} ({p:+d})" for p, text in findings))


def level(points: int) -> RiskLevel:
    """LOW below 25 points, HIGH from 60."""
    if points >= HIGH_POINTS:
        return RiskLevel.HIGH
    return RiskLevel.MEDIUM if points >= MEDIUM_POINTS else RiskLevel.LOW


def plan_risk(risks: Mapping[str, Risk]) -> Risk:
    """A plan is as risky as its riskiest change; reasons name the changes above LOW, at most ten."""
    if not risks:
        return Risk(level=RiskLevel.LOW, points=0, reasons=("nothing changes",))
    ordered = sorted(risks.items(), key=lambda item: (-item[1].points, item[0]))
    counts = {name: sum(r.level is name for r in risks.values()) for name in reversed(RiskLevel)}
    summary = ", ".join(f"{count} {name.value}" for name, count in counts.items() if count)
    serious = [(name, risk) for name, risk in ordered if risk.level is not RiskLevel.LOW]
    shown = [f"{name}: {risk.reasons[0]}" for name, risk in serious[:10] if risk.reasons]
    more = [f"and {len(serious) - 10} more"] if len(serious) > 10 else []
    worst = ordered[0][1]
    return Risk(level=worst.level, points=worst.points, reasons=(f"changes: {summary}", *shown, *more))


def is_production(name: str | None) -> bool:
    """Whether an environment of this name is one that people live from."""
    return name is not None and name.lower() in _PRODUCTION_NAMES


def _action(subject: Subject) -> Iterator[Finding]:
    change = subject.change
    stateful = (change.previous_type or change.type) in STATEFUL
    holds = "a resource that holds data" if stateful else "a resource"
    if change.action is Action.UPDATE and change.replacement is Replacement.CONDITIONAL:
        yield _CONDITIONAL[stateful], f"may replace {holds}"
    elif change.action in (Action.DELETE, Action.REPLACE) and change.retain:
        yield _RETAINED, "lets go of a resource that stays in AWS"
    elif change.action in _ACTIONS:
        yield _ACTIONS[change.action][stateful], f"{change.action.value}s {holds}"
        if subject.snapshot and stateful and change.action in (Action.DELETE, Action.REPLACE):
            yield _SNAPSHOT, "asks for a last snapshot"
    if change.delete_first and change.action is Action.REPLACE:
        yield _GAP, "the old one goes before the new one comes"


def _reach(subject: Subject) -> Iterator[Finding]:
    count = subject.dependants
    weight = {Action.UPDATE: 1, Action.REPLACE: 2, Action.DELETE: 2}.get(subject.change.action, 0)
    if count and weight:
        others = "1 other depends" if count == 1 else f"{count} others depend"
        yield min(_REACH_MAX, weight * count), f"{others} on it"


def _circumstances(subject: Subject) -> Iterator[Finding]:
    change = subject.change
    if change.action is not Action.CREATE and (subject.production or _tagged_production(subject)):
        yield _PRODUCTION, "production"
    if any(p.drift for p in change.properties):
        yield _DRIFT, "overwrites what was changed outside Fairlead"
    if change.via is Via.CLOUDFORMATION:
        yield _FALLBACK, "goes through a CloudFormation stack: no Cloud Control handlers"
    if change.action is Action.UPDATE and any(_has_unknown(p.after) for p in change.properties):
        yield _UNKNOWN, "some values are known only after apply"


def _price(subject: Subject) -> Iterator[Finding]:
    delta = subject.cost_delta_usd
    for limit, points in _COST_USD:
        if delta is not None and delta > limit:
            yield points, f"costs {delta:,.2f} USD a month more"
            return


def _exposure(subject: Subject) -> Iterator[Finding]:
    """What the change opens that was not open before."""
    if subject.after is None:
        return
    change = subject.change
    open_before = set()
    if subject.before is not None and change.previous_type is None:
        open_before = {text for _, text in _exposures(change.type, subject.before)}
    yield from (f for f in _exposures(change.type, subject.after) if f[1] not in open_before)


def _weakening(subject: Subject) -> Iterator[Finding]:
    """What protected the resource and does not any more."""
    before, after = subject.before, subject.after
    if before is None or after is None:
        return
    for name in sorted(before.keys() | after.keys()):
        was, now = before.get(name), after.get(name)
        if name in _ENCRYPTION and _on(was) and not (_on(now) or isinstance(now, Unknown)):
            yield 60, f"switches off {name}"
        if name in _PROTECTION and _on(was) and not (_on(now) or isinstance(now, Unknown)):
            yield 40, f"switches off {name}"
        if name in _BLOCKS and was and now is None:
            yield 60, f"removes {name}"
        # Logs without a retention stay for ever: leaving that out takes nothing away.
        if name in _RETENTION and _less(was, now) and not (name == "RetentionInDays" and now is None):
            off = now is not None and _number(now) == 0
            yield (60, f"switches off {name}") if off else (25, f"shortens {name}")


_ENCRYPTION = frozenset(
    {
        "StorageEncrypted",
        "Encrypted",
        "KmsKeyId",
        "KmsMasterKeyId",
        "KMSMasterKeyId",
        "BucketEncryption",
        "SSESpecification",
        "AtRestEncryptionEnabled",
        "TransitEncryptionEnabled",
        "EncryptionConfiguration",
        "SqsManagedSseEnabled",
        "EncryptionAtRestOptions",
        "EnableKeyRotation",
    }
)
_PROTECTION = frozenset(
    {
        "DeletionProtection",
        "DeletionProtectionEnabled",
        "DisableApiTermination",
        "DisableApiStop",
        "EnableTerminationProtection",
        "VersioningConfiguration",
        "PointInTimeRecoverySpecification",
        "BackupPolicy",
        "ObjectLockEnabled",
        "MultiAZ",
        "AutomaticFailoverEnabled",
    }
)
_BLOCKS = frozenset({"PublicAccessBlockConfiguration", "BlockPublicAccess"})
_RETENTION = frozenset(
    {
        "BackupRetentionPeriod",
        "SnapshotRetentionLimit",
        "RetentionInDays",
        "RetentionPeriodHours",
    }
)


def _on(value: Any) -> bool:
    """Whether a setting is on: true, a key, or a block that holds nothing that is switched off."""
    if isinstance(value, Mapping):
        return bool(value) and not any(v is False or v in _OFF for v in value.values())
    return bool(value and value not in _OFF)


_OFF = ("false", "False", "Suspended", "DISABLED", "Disabled")


def _less(was: Any, now: Any) -> bool:
    if isinstance(now, Unknown) or was is None:
        return False
    return _number(was) > _number(now)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0


def _exposures(type_name: str, properties: Properties) -> Iterator[Finding]:
    for rule in _EXPOSURES.get(type_name, ()):
        yield from rule(properties)
    for name in sorted(properties):
        if name.endswith("PolicyDocument") or name in _POLICY_NAMES:
            yield from _policy(properties[name], trust=name == "AssumeRolePolicyDocument")
    for inline in _items(properties.get("Policies")):
        if isinstance(inline, Mapping):
            yield from _policy(inline.get("PolicyDocument"))


_POLICY_NAMES = frozenset({"KeyPolicy", "ResourcePolicy", "RepositoryPolicyText", "AccessPolicies"})


def _items(value: Any) -> Sequence[Any]:
    if value is None:
        return ()
    return value if isinstance(value, list | tuple) else (value,)


_ADMIN_PORTS: Mapping[int, str] = {
    22: "SSH",
    23: "Telnet",
    445: "SMB",
    1433: "SQL Server",
    1521: "Oracle",
    2379: "etcd",
    3306: "MySQL",
    3389: "RDP",
    5432: "PostgreSQL",
    5985: "WinRM",
    6379: "Redis",
    9200: "Elasticsearch",
    11211: "memcached",
    27017: "MongoDB",
}
_WEB_PORTS = frozenset({80, 443})


def _security_group(properties: Properties) -> Iterator[Finding]:
    for rule in _items(properties.get("SecurityGroupIngress")):
        yield from _ingress(rule)


def _ingress(rule: Any) -> Iterator[Finding]:
    """One inbound rule that lets the whole internet in."""
    if not isinstance(rule, Mapping):
        return
    source = rule.get("CidrIp") if rule.get("CidrIp") == "0.0.0.0/0" else rule.get("CidrIpv6")
    if source not in ("0.0.0.0/0", "::/0"):
        return
    protocol = str(rule.get("IpProtocol", "-1")).lower()
    if protocol in ("icmp", "icmpv6", "1", "58"):
        return
    first, last = _ports(rule, protocol)
    named = [name for port, name in _ADMIN_PORTS.items() if first <= port <= last]
    if first <= 0 and last >= 65535:
        yield 60, f"opens every port to {source}"
    elif named:
        yield 60, f"opens {', '.join(named)} to {source}"
    elif not (first == last and first in _WEB_PORTS):
        yield 25, f"opens port {first if first == last else f'{first}-{last}'} to {source}"


def _ports(rule: Mapping[str, Any], protocol: str) -> tuple[int, int]:
    if protocol == "-1" or rule.get("FromPort") in (None, -1, "-1"):
        return 0, 65535
    try:
        return int(rule["FromPort"]), int(rule.get("ToPort", rule["FromPort"]))
    except (TypeError, ValueError):
        return 0, 65535  # a port that is known only after apply may be any


def _bucket(properties: Properties) -> Iterator[Finding]:
    if str(properties.get("AccessControl", "")).startswith("Public"):
        yield 60, f"makes the bucket public ({properties['AccessControl']})"
    block = properties.get("PublicAccessBlockConfiguration")
    if isinstance(block, Mapping):
        lifted = sorted(name for name, value in block.items() if value in (False, "false"))
        if lifted:
            yield 40, f"lifts the public access block ({', '.join(lifted)})"


def _public_database(properties: Properties) -> Iterator[Finding]:
    if properties.get("PubliclyAccessible") in (True, "true"):
        yield 60, "makes the database reachable from the internet"


def _permission(properties: Properties) -> Iterator[Finding]:
    if (
        properties.get("Principal") == "*"
        and not properties.get("SourceAccount")
        and not properties.get("SourceArn")
    ):
        yield 60, "lets anybody invoke the function"


def _function_url(properties: Properties) -> Iterator[Finding]:
    if properties.get("AuthType") == "NONE":
        yield 25, "lets anybody call the function's URL"


def _cluster(properties: Properties) -> Iterator[Finding]:
    vpc = properties.get("ResourcesVpcConfig")
    if not isinstance(vpc, Mapping) or vpc.get("EndpointPublicAccess", True) in (False, "false"):
        return
    if "0.0.0.0/0" in _items(vpc.get("PublicAccessCidrs", ["0.0.0.0/0"])):
        yield 25, "leaves the cluster's API reachable from the internet"


def _managed_policies(properties: Properties) -> Iterator[Finding]:
    for arn in _items(properties.get("ManagedPolicyArns")):
        if isinstance(arn, str) and arn.rpartition("/")[2] in ("AdministratorAccess", "IAMFullAccess"):
            yield 60, f"grants {arn.rpartition('/')[2]}"
        elif isinstance(arn, str) and arn.rpartition("/")[2] == "PowerUserAccess":
            yield 25, "grants PowerUserAccess"


_EXPOSURES = {
    "AWS::EC2::SecurityGroup": (_security_group,),
    "AWS::EC2::SecurityGroupIngress": (_ingress,),
    "AWS::EKS::Cluster": (_cluster,),
    "AWS::IAM::Group": (_managed_policies,),
    "AWS::IAM::Role": (_managed_policies,),
    "AWS::IAM::User": (_managed_policies,),
    "AWS::Lambda::Permission": (_permission,),
    "AWS::Lambda::Url": (_function_url,),
    "AWS::RDS::DBInstance": (_public_database,),
    "AWS::Redshift::Cluster": (_public_database,),
    "AWS::S3::Bucket": (_bucket,),
}


def _policy(document: Any, *, trust: bool = False) -> Iterator[Finding]:
    """What the Allow statements of a policy document let anybody do, or anything be done."""
    if isinstance(document, str):
        try:
            document = json.loads(document)
        except ValueError:
            return
    if not isinstance(document, Mapping):
        return
    for statement in _items(document.get("Statement")):
        if isinstance(statement, Mapping) and statement.get("Effect") == "Allow":
            yield from _statement(statement, trust=trust)


def _statement(statement: Mapping[str, Any], *, trust: bool) -> Iterator[Finding]:
    if _anybody(statement.get("Principal")) and not statement.get("Condition"):
        yield 60, "lets anybody assume the role" if trust else "lets anybody in (Principal *)"
    resources = _items(statement.get("Resource"))
    if trust or ("Resource" in statement and "*" not in resources):
        return
    if "NotAction" in statement:
        yield 60, "allows all actions but a few (NotAction)"
    for action in _items(statement.get("Action")):
        if action in ("*", "*:*"):
            yield 60, "allows every action (Action *)"
        elif isinstance(action, str) and action.lower() in ("iam:*", "sts:*", "iam:passrole"):
            yield 60, f"allows {action} on everything"
        elif isinstance(action, str) and action.endswith(":*") and "Principal" not in statement:
            yield 25, f"allows {action} on everything"


def _anybody(principal: Any) -> bool:
    if isinstance(principal, Mapping):
        return any("*" in _items(value) for value in principal.values())
    return bool(principal == "*")


def _tagged_production(subject: Subject) -> bool:
    properties = subject.before if subject.before is not None else subject.after
    return properties is not None and any(
        key.lower() in _ENVIRONMENT_TAGS and isinstance(value, str) and is_production(value)
        for key, value in _tags(properties.get("Tags"))
    )


def _tags(tags: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(tags, Mapping):
        return list(tags.items())
    return [(str(tag.get("Key", "")), tag.get("Value")) for tag in _items(tags) if isinstance(tag, Mapping)]


def _has_unknown(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_has_unknown(item) for item in value.values())
    if isinstance(value, list | tuple):
        return any(_has_unknown(item) for item in value)
    return isinstance(value, Unknown)


_RULES = (_action, _reach, _circumstances, _price, _exposure, _weakening)
