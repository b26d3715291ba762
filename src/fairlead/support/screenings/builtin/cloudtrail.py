"""CloudTrail: whether what happens in the account is recorded, and can be trusted."""

from collections.abc import AsyncIterator
from typing import Any

from fairlead.support.collect import Reads, Unreadable
from fairlead.support.model import Severity
from fairlead.support.screenings.builtin.checks import (
    GLOBAL,
    Check,
    Item,
    NotAssessed,
    Service,
    Source,
    Verdict,
    item,
    unless,
)

ACCOUNT, TRAIL = "AWS::Account", "AWS::CloudTrail::Trail"


async def _read(reads: Reads) -> list[dict[str, Any]]:
    """The trails with whether they log; shadows of trails of other regions included, each trail once."""
    answer = await reads.call("cloudtrail", "describe_trails", includeShadowTrails=True)
    found = []
    for trail in answer.get("trailList", ()):
        status = await reads.fact(
            "cloudtrail",
            "get_trail_status",
            lambda a: a.get("IsLogging"),
            at=trail.get("HomeRegion"),
            Name=trail["TrailARN"],
        )
        found.append({**trail, "IsLogging": status})
    return found


async def trails(reads: Reads) -> AsyncIterator[Item]:
    """The account's own trails; those of its organisation are somebody else's to repair."""
    for trail in await _read(reads):
        if f":{reads.account}:" in trail["TrailARN"]:
            region = trail.get("HomeRegion") or reads.region
            yield item(reads, TRAIL, trail["TrailARN"], trail, name=trail["Name"], region=region)


async def account(reads: Reads) -> AsyncIterator[Item]:
    """All trails together."""
    facts = {"Trails": await _read(reads)}
    yield item(reads, ACCOUNT, reads.arn("iam", "root", region=""), facts, name=reads.account, region=GLOBAL)


def everywhere(account: Item) -> Verdict:
    """One trail that logs, in all regions."""
    wide = [trail for trail in account["Trails"] if trail.get("IsMultiRegionTrail")]
    if any(trail["IsLogging"] is True for trail in wide):
        return unless(False, "")
    if unread := [t["IsLogging"] for t in wide if isinstance(t["IsLogging"], Unreadable)]:
        raise NotAssessed(unread[0].reason)
    return unless(True, "No trail logs all regions.")


def is_logging(trail: Item) -> Verdict:
    """The trail is on."""
    return unless(not trail["IsLogging"], "Logging is off.")


def validated(trail: Item) -> Verdict:
    """Changed log files can be told."""
    return unless(not trail["LogFileValidationEnabled"], "Log file validation is off.")


def encrypted(trail: Item) -> Verdict:
    """A KMS key."""
    return unless(not trail.optional("KmsKeyId"), "Logs are not encrypted with a KMS key.")


def to_logs(trail: Item) -> Verdict:
    """Events reach CloudWatch Logs."""
    return unless(not trail.optional("CloudWatchLogsLogGroupArn"), "Events do not reach CloudWatch Logs.")


SERVICE = Service(
    name="cloudtrail",
    regional=False,
    reference="https://docs.aws.amazon.com/awscloudtrail/latest/userguide/best-practices-security.html",
    sources=(
        Source(
            kind=ACCOUNT,
            collect=account,
            checks=(
                Check(
                    id="cloudtrail.all_regions",
                    title="No trail records all regions",
                    severity=Severity.HIGH,
                    judge=everywhere,
                    why="What an intruder does in a region that nobody uses stays unseen.",
                    fix="Create a multi-region trail for management events and switch it on.",
                    cis=("3.1",),
                    pillars=("security", "operational-excellence"),
                ),
            ),
        ),
        Source(
            kind=TRAIL,
            collect=trails,
            checks=(
                Check(
                    id="cloudtrail.trail_logging",
                    title="Trail is switched off",
                    severity=Severity.HIGH,
                    judge=is_logging,
                    why="It looks as if events were recorded, and they are not.",
                    fix="Start logging, or delete the trail.",
                    cis=("3.1",),
                ),
                Check(
                    id="cloudtrail.trail_validation",
                    title="Trail does not protect its log files",
                    severity=Severity.LOW,
                    judge=validated,
                    why="Nobody can prove that log files were not changed.",
                    fix="Turn on log file validation.",
                    cis=("3.2",),
                ),
                Check(
                    id="cloudtrail.trail_encryption",
                    title="Trail is not encrypted with a KMS key",
                    severity=Severity.LOW,
                    judge=encrypted,
                    why="Who may read the bucket may read everything that happened.",
                    fix="Set a KMS key whose policy names the readers.",
                    cis=("3.5",),
                ),
                Check(
                    id="cloudtrail.trail_cloudwatch",
                    title="Trail does not reach CloudWatch Logs",
                    severity=Severity.LOW,
                    judge=to_logs,
                    why="Alarms on sensitive calls need the events there.",
                    fix="Set a log group for the trail, or watch events through EventBridge.",
                    pillars=("operational-excellence", "security"),
                ),
            ),
        ),
    ),
)
