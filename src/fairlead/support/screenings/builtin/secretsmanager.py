"""Secrets Manager: rotation, use and sharing of secrets. Their values are never read."""

from collections.abc import AsyncIterator
from typing import Any

from fairlead.support.collect import Reads, details, tags_of
from fairlead.support.model import Severity
from fairlead.support.screenings.builtin.checks import Check, Item, Service, Source, Verdict, item, unless
from fairlead.support.screenings.builtin.policies import open_statements

SECRET = "AWS::SecretsManager::Secret"  # noqa: S105
MAX_IDLE_DAYS = 90


async def secrets(reads: Reads) -> AsyncIterator[Item]:
    """Secrets with their policies."""

    async def look(found: dict[str, Any]) -> Item:
        policy = await reads.fact(
            "secretsmanager", "get_resource_policy", lambda a: a.get("ResourcePolicy"), SecretId=found["ARN"]
        )
        facts = {**found, "Policy": policy}
        return item(reads, SECRET, found["ARN"], facts, name=found["Name"], tags=tags_of(found.get("Tags")))

    async for found in details(reads.pages("secretsmanager", "list_secrets", "SecretList"), look):
        yield found


def rotation(secret: Item) -> Verdict:
    """Changed by itself; those that a service owns are changed by it."""
    if secret.optional("OwningService"):
        return None
    return unless(not secret.optional("RotationEnabled"), "Rotation is off.")


def in_use(secret: Item) -> Verdict:
    """Somebody reads it. A secret younger than the limit may still wait for its first reader."""
    seen = secret.optional("LastAccessedDate") or secret["CreatedDate"]
    days = secret.days_since(seen)
    return unless(days > MAX_IDLE_DAYS, f"Nobody read it for {days} days.")


def public_policy(secret: Item) -> Verdict:
    """Not everyone may use it."""
    opened = open_statements(secret["Policy"])
    return unless(bool(opened), f"Everyone may use it: {', '.join(opened)}.")


SERVICE = Service(
    name="secretsmanager",
    reference="https://docs.aws.amazon.com/secretsmanager/latest/userguide/best-practices.html",
    sources=(
        Source(
            kind=SECRET,
            collect=secrets,
            checks=(
                Check(
                    id="secretsmanager.secret_rotation",
                    title="Secret is not rotated",
                    severity=Severity.MEDIUM,
                    judge=rotation,
                    why="A secret that leaked unnoticed stays good for ever.",
                    fix="Turn on rotation.",
                ),
                Check(
                    id="secretsmanager.secret_unused",
                    title="Secret is not used",
                    severity=Severity.LOW,
                    judge=in_use,
                    why="It costs every month, and what it opens may be forgotten too.",
                    fix="Withdraw what it opens, then delete it.",
                    pillars=("cost-optimization", "security"),
                ),
                Check(
                    id="secretsmanager.secret_public_policy",
                    title="Everyone may use the secret",
                    severity=Severity.CRITICAL,
                    judge=public_policy,
                    why="Any AWS account may read it as far as the statement goes.",
                    fix="Name the principals in the policy and change the secret.",
                ),
            ),
        ),
    ),
)
