"""ECR: scanning, tags and sharing of image repositories."""

from collections.abc import AsyncIterator
from typing import Any

from fairlead.support.collect import Reads, details
from fairlead.support.model import Severity
from fairlead.support.screenings.builtin.checks import Check, Item, Service, Source, Verdict, item, unless
from fairlead.support.screenings.builtin.policies import open_statements

REPOSITORY = "AWS::ECR::Repository"


async def repositories(reads: Reads) -> AsyncIterator[Item]:
    """Repositories with their policies."""

    async def look(found: dict[str, Any]) -> Item:
        name = found["repositoryName"]
        policy = await reads.fact(
            "ecr",
            "get_repository_policy",
            lambda a: a.get("policyText"),
            absent=("RepositoryPolicyNotFoundException",),
            repositoryName=name,
        )
        return item(reads, REPOSITORY, found["repositoryArn"], {**found, "Policy": policy}, name=name)

    async for found in details(reads.pages("ecr", "describe_repositories", "repositories"), look):
        yield found


def scanned(repository: Item) -> Verdict:
    """Images are scanned when they are pushed."""
    return unless(
        not (repository["imageScanningConfiguration"] or {}).get("scanOnPush"), "Scan on push is off."
    )


def fixed_tags(repository: Item) -> Verdict:
    """A tag always means the same image."""
    mode = repository["imageTagMutability"]
    return unless(not str(mode).startswith("IMMUTABLE"), "Tags can be moved to other images.")


def public_policy(repository: Item) -> Verdict:
    """Not everyone may pull or push."""
    opened = open_statements(repository["Policy"])
    return unless(bool(opened), f"Everyone may use it: {', '.join(opened)}.")


SERVICE = Service(
    name="ecr",
    reference="https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-scanning.html",
    sources=(
        Source(
            kind=REPOSITORY,
            collect=repositories,
            checks=(
                Check(
                    id="ecr.repository_scan",
                    title="Repository does not scan images",
                    severity=Severity.MEDIUM,
                    judge=scanned,
                    why="Images with known holes go into production.",
                    fix="Turn on scan on push, or enhanced scanning for the registry.",
                ),
                Check(
                    id="ecr.repository_mutable_tags",
                    title="Repository lets tags be moved",
                    severity=Severity.LOW,
                    judge=fixed_tags,
                    why="What runs under a tag may not be what was tested under it.",
                    fix="Make tags immutable.",
                    pillars=("security", "operational-excellence"),
                ),
                Check(
                    id="ecr.repository_public_policy",
                    title="Everyone may use the repository",
                    severity=Severity.HIGH,
                    judge=public_policy,
                    why="Any AWS account may pull images, or push them, as far as the statement goes.",
                    fix="Name the accounts in the policy, or tie it to your organisation.",
                ),
            ),
        ),
    ),
)
