"""SNS: who may publish and subscribe, encryption, and subscriptions over plain HTTP."""

from collections.abc import AsyncIterator
from typing import Any

from fairlead.support.collect import Reads, details
from fairlead.support.model import Severity
from fairlead.support.screenings.builtin.checks import Check, Item, Service, Source, Verdict, item, unless
from fairlead.support.screenings.builtin.policies import open_statements

TOPIC = "AWS::SNS::Topic"


async def topics(reads: Reads) -> AsyncIterator[Item]:
    """Topics with their attributes and the protocols of their subscriptions."""

    async def look(topic: dict[str, Any]) -> Item:
        arn = topic["TopicArn"]
        facts = {
            "Attributes": await reads.fact(
                "sns", "get_topic_attributes", lambda a: a.get("Attributes") or {}, TopicArn=arn
            ),
            "Subscriptions": await reads.all_of(
                "sns", "list_subscriptions_by_topic", "Subscriptions", TopicArn=arn
            ),
        }
        return item(reads, TOPIC, arn, facts, name=arn.rsplit(":", 1)[-1])

    async for found in details(reads.pages("sns", "list_topics", "Topics"), look):
        yield found


def public_policy(topic: Item) -> Verdict:
    """Not everyone may publish or subscribe."""
    opened = open_statements(topic["Attributes"].get("Policy"))
    return unless(bool(opened), f"Everyone may use it: {', '.join(opened)}.")


def encrypted(topic: Item) -> Verdict:
    """A KMS key; without one messages rest in the clear."""
    return unless(not topic["Attributes"].get("KmsMasterKeyId"), "It has no KMS key.")


def plain_http(topic: Item) -> Verdict:
    """No subscription over HTTP without TLS."""
    plain = [s for s in topic["Subscriptions"] if s.get("Protocol") == "http"]
    return unless(bool(plain), f"{len(plain)} subscriptions use plain HTTP.")


SERVICE = Service(
    name="sns",
    reference="https://docs.aws.amazon.com/sns/latest/dg/sns-security-best-practices.html",
    sources=(
        Source(
            kind=TOPIC,
            collect=topics,
            checks=(
                Check(
                    id="sns.topic_public_policy",
                    title="Everyone may use the topic",
                    severity=Severity.CRITICAL,
                    judge=public_policy,
                    why="Anybody can subscribe to what is published, or publish lies.",
                    fix="Name the principals, with SourceArn, SourceAccount or SourceOwner.",
                ),
                Check(
                    id="sns.topic_encryption",
                    title="Topic is not encrypted",
                    severity=Severity.LOW,
                    judge=encrypted,
                    why="Messages lie in the clear until they are delivered.",
                    fix="Set a KMS key that the publishers may use.",
                ),
                Check(
                    id="sns.topic_plain_http",
                    title="Topic sends messages over plain HTTP",
                    severity=Severity.MEDIUM,
                    judge=plain_http,
                    why="Messages can be read and changed on the way.",
                    fix="Subscribe with an https address and delete the old subscription.",
                ),
            ),
        ),
    ),
)
