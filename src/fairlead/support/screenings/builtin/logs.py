"""CloudWatch Logs: how long groups are kept, and with which key."""

from collections.abc import AsyncIterator

from fairlead.support.collect import Reads
from fairlead.support.model import Severity
from fairlead.support.screenings.builtin.checks import Check, Item, Service, Source, Verdict, item, unless

GROUP = "AWS::Logs::LogGroup"


async def groups(reads: Reads) -> AsyncIterator[Item]:
    """Log groups."""
    async for found in reads.pages("logs", "describe_log_groups", "logGroups"):
        name = found["logGroupName"]
        arn = str(found.get("arn") or reads.arn("logs", f"log-group:{name}")).removesuffix(":*")
        yield item(reads, GROUP, arn, found, name=name)


def retention(group: Item) -> Verdict:
    """Not kept for ever."""
    return unless(not group.optional("retentionInDays"), "It is kept for ever.")


def customer_key(group: Item) -> Verdict:
    """A key of the customer."""
    return unless(not group.optional("kmsKeyId"), "It is encrypted with a key that AWS owns.")


SERVICE = Service(
    name="logs",
    reference="https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/security.html",
    sources=(
        Source(
            kind=GROUP,
            collect=groups,
            checks=(
                Check(
                    id="logs.group_retention",
                    title="Log group is kept for ever",
                    severity=Severity.LOW,
                    judge=retention,
                    why="It grows and is paid for, and keeps personal data longer than allowed.",
                    fix="Set a retention that fits your rules.",
                    pillars=("cost-optimization", "security"),
                ),
                Check(
                    id="logs.group_customer_key",
                    title="Log group is not encrypted with a key of your own",
                    severity=Severity.INFORMATIONAL,
                    judge=customer_key,
                    why="Use of a key of AWS can be neither watched nor withdrawn.",
                    fix="Set a KMS key where logs hold personal data.",
                ),
            ),
        ),
    ),
)
