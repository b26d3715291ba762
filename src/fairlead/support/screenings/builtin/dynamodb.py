"""DynamoDB: backups, protection and keys of tables."""

from collections.abc import AsyncIterator
from typing import Any

from fairlead.support.collect import Reads, details
from fairlead.support.model import Severity
from fairlead.support.screenings.builtin.checks import Check, Item, Service, Source, Verdict, item, unless

TABLE = "AWS::DynamoDB::Table"


async def tables(reads: Reads) -> AsyncIterator[Item]:
    """Tables with their backups."""

    async def look(name: str) -> Item:
        table = await reads.fact("dynamodb", "describe_table", lambda a: a["Table"], TableName=name)
        recovery = await reads.fact(
            "dynamodb",
            "describe_continuous_backups",
            lambda a: a["ContinuousBackupsDescription"]["PointInTimeRecoveryDescription"][
                "PointInTimeRecoveryStatus"
            ],
            TableName=name,
        )
        facts: dict[str, Any] = {"Table": table, "Recovery": recovery}
        arn = reads.arn("dynamodb", f"table/{name}")
        if isinstance(table, dict):
            arn = table.get("TableArn", arn)
        return item(reads, TABLE, arn, facts, name=name)

    async for found in details(reads.pages("dynamodb", "list_tables", "TableNames"), look):
        yield found


def recovery(table: Item) -> Verdict:
    """Point-in-time recovery is on."""
    return unless(table["Recovery"] != "ENABLED", "Point-in-time recovery is off.")


def protection(table: Item) -> Verdict:
    """It cannot be deleted by one call."""
    return unless(not table["Table"].get("DeletionProtectionEnabled"), "Deletion protection is off.")


def customer_key(table: Item) -> Verdict:
    """A key of the customer; without one AWS's own is used."""
    described = table["Table"].get("SSEDescription") or {}
    return unless(described.get("SSEType") != "KMS", "It is encrypted with a key that AWS owns.")


SERVICE = Service(
    name="dynamodb",
    reference="https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/best-practices-security-preventative.html",
    sources=(
        Source(
            kind=TABLE,
            collect=tables,
            checks=(
                Check(
                    id="dynamodb.table_recovery",
                    title="Table has no point-in-time recovery",
                    severity=Severity.MEDIUM,
                    judge=recovery,
                    why="A wrong write or delete cannot be undone.",
                    fix="Turn on point-in-time recovery.",
                    pillars=("reliability",),
                ),
                Check(
                    id="dynamodb.table_deletion_protection",
                    title="Table can be deleted by one call",
                    severity=Severity.LOW,
                    judge=protection,
                    why="A mistake in a script is enough.",
                    fix="Turn on deletion protection.",
                    pillars=("reliability", "security"),
                ),
                Check(
                    id="dynamodb.table_customer_key",
                    title="Table is not encrypted with a key of your own",
                    severity=Severity.INFORMATIONAL,
                    judge=customer_key,
                    why="Use of a key of AWS can be neither watched nor withdrawn.",
                    fix="Choose a KMS key of your own where rules ask for control of the key.",
                ),
            ),
        ),
    ),
)
