"""SQS: who may use a queue, its encryption, and what happens to what cannot be handled."""

import json
from collections.abc import AsyncIterator

from fairlead.support.collect import Reads, details
from fairlead.support.model import Severity
from fairlead.support.screenings.builtin.checks import (
    Check,
    Item,
    NotAssessed,
    Service,
    Source,
    Verdict,
    item,
    unless,
)
from fairlead.support.screenings.builtin.policies import open_statements

QUEUE = "AWS::SQS::Queue"


async def queues(reads: Reads) -> AsyncIterator[Item]:
    """Queues with their attributes."""

    async def look(url: str) -> Item:
        name = url.rsplit("/", 1)[-1]
        attributes = await reads.fact(
            "sqs",
            "get_queue_attributes",
            lambda a: a.get("Attributes") or {},
            QueueUrl=url,
            AttributeNames=["All"],
        )
        return item(reads, QUEUE, reads.arn("sqs", name), {"Attributes": attributes}, name=name)

    async for found in details(reads.pages("sqs", "list_queues", "QueueUrls"), look):
        yield found


def encrypted(queue: Item) -> Verdict:
    """SQS's own key, or one of KMS."""
    attributes = queue["Attributes"]
    if "SqsManagedSseEnabled" not in attributes and "KmsMasterKeyId" not in attributes:
        raise NotAssessed("The answer says nothing about encryption.")
    managed = attributes.get("SqsManagedSseEnabled") == "true"
    return unless(not managed and not attributes.get("KmsMasterKeyId"), "Encryption is off.")


def public_policy(queue: Item) -> Verdict:
    """Not everyone may use it."""
    opened = open_statements(queue["Attributes"].get("Policy"))
    return unless(bool(opened), f"Everyone may use it: {', '.join(opened)}.")


def dead_letters(queue: Item) -> Verdict:
    """What cannot be handled is set aside. A queue that others set aside to needs no such queue itself."""
    attributes = queue["Attributes"]
    target = json.loads(attributes.get("RedrivePolicy") or "{}").get("deadLetterTargetArn")
    if not target and ("RedriveAllowPolicy" in attributes or _is_dead_letter_queue(queue.resource.name)):
        return None
    return unless(not target, "It has no dead-letter queue.")


def _is_dead_letter_queue(name: str) -> bool:
    plain = name.lower().removesuffix(".fifo").replace("_", "-")
    return plain.endswith(("-dlq", "-dead-letter", "-dead-letters", "-deadletter"))


SERVICE = Service(
    name="sqs",
    reference="https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-security-best-practices.html",
    sources=(
        Source(
            kind=QUEUE,
            collect=queues,
            checks=(
                Check(
                    id="sqs.queue_encryption",
                    title="Queue is not encrypted",
                    severity=Severity.MEDIUM,
                    judge=encrypted,
                    why="Messages lie in the clear until they are fetched.",
                    fix="Turn on SSE-SQS, or SSE-KMS where access to the key must be controlled.",
                ),
                Check(
                    id="sqs.queue_public_policy",
                    title="Everyone may use the queue",
                    severity=Severity.CRITICAL,
                    judge=public_policy,
                    why="Anybody can read, forge or delete messages, as far as the statement goes.",
                    fix="Name the principals, with SourceArn or SourceAccount for services.",
                ),
                Check(
                    id="sqs.queue_dead_letters",
                    title="Queue has no dead-letter queue",
                    severity=Severity.LOW,
                    judge=dead_letters,
                    why=(
                        "A message that cannot be handled comes back until it is lost, and "
                        "holds up the others."
                    ),
                    fix="Set a redrive policy and an alarm on the dead-letter queue.",
                    pillars=("reliability",),
                ),
            ),
        ),
    ),
)
