"""S3: who can read a bucket, and how its contents are kept."""

from collections.abc import AsyncIterator
from typing import Any

from fairlead.support.collect import Reads, details
from fairlead.support.model import Severity
from fairlead.support.screenings.builtin.checks import (
    GLOBAL,
    PASSED,
    Check,
    Failed,
    Item,
    NotAssessed,
    Service,
    Source,
    Verdict,
    item,
    unless,
)
from fairlead.support.screenings.builtin.policies import demands_tls, open_statements

BUCKET, ACCOUNT = "AWS::S3::Bucket", "AWS::S3::AccountPublicAccessBlock"
_BLOCKS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
_EVERYONE = ("/groups/global/AllUsers", "/groups/global/AuthenticatedUsers")


async def buckets(reads: Reads) -> AsyncIterator[Item]:
    """Every bucket of the account, with its settings."""
    account = await _account_block(reads)

    async def look(bucket: dict[str, Any]) -> Item:
        return await _bucket(reads, bucket, account)

    async for found in details(reads.pages("s3", "list_buckets", "Buckets"), look):
        yield found


async def _bucket(reads: Reads, bucket: dict[str, Any], account: Any) -> Item:
    name = bucket["Name"]
    region = bucket.get("BucketRegion") or await reads.fact(
        "s3", "get_bucket_location", _located, Bucket=name
    )
    known = region if isinstance(region, str) else None
    at = known or reads.region

    async def fact(operation: str, key: str | None, *absent: str) -> Any:
        return await reads.fact(
            "s3", operation, lambda a: a.get(key) if key else a, absent=absent, at=at, Bucket=name
        )

    facts = {
        "AccountBlock": account,
        "Block": await fact(
            "get_public_access_block",
            "PublicAccessBlockConfiguration",
            "NoSuchPublicAccessBlockConfiguration",
        ),
        "Grants": await fact("get_bucket_acl", "Grants"),
        "Policy": await fact("get_bucket_policy", "Policy", "NoSuchBucketPolicy"),
        "Encryption": await fact(
            "get_bucket_encryption",
            "ServerSideEncryptionConfiguration",
            "ServerSideEncryptionConfigurationNotFoundError",
        ),
        "Versioning": await fact("get_bucket_versioning", "Status"),
        "Logging": await fact("get_bucket_logging", "LoggingEnabled"),
        "Lifecycle": await fact(
            "get_bucket_lifecycle_configuration", "Rules", "NoSuchLifecycleConfiguration"
        ),
    }
    return item(
        reads, BUCKET, f"arn:{reads.partition}:s3:::{name}", facts, name=name, region=at if known else GLOBAL
    )


def _located(answer: dict[str, Any]) -> str:
    """Region of a bucket; S3 has old names for the two that it began with."""
    place = answer.get("LocationConstraint")
    return {None: "us-east-1", "": "us-east-1", "EU": "eu-west-1"}.get(place, str(place))


async def _account_block(reads: Reads) -> Any:
    return await reads.fact(
        "s3control",
        "get_public_access_block",
        lambda a: a.get("PublicAccessBlockConfiguration"),
        absent=("NoSuchPublicAccessBlockConfiguration",),
        AccountId=reads.account,
    )


async def account_block(reads: Reads) -> AsyncIterator[Item]:
    """The account's own block of public access."""
    uid = f"arn:{reads.partition}:s3:::account/{reads.account}"
    yield item(reads, ACCOUNT, uid, {"Block": await _account_block(reads)}, name=reads.account, region=GLOBAL)


def _account_switches(bucket: Item) -> tuple[dict[str, Any], str]:
    """The account's block, and a caveat where it could not be read: then nothing is known to stop a fault."""
    try:
        return bucket["AccountBlock"] or {}, ""
    except NotAssessed as unread:
        return {}, f" Whether the account's own block stops this is unknown: {unread}"


def _opened(bucket: Item, switch: str, fault: str) -> Verdict:
    """Failed with `fault`, unless the bucket's or the account's block has `switch` on."""
    account, caveat = _account_switches(bucket)
    if (bucket["Block"] or {}).get(switch) or account.get(switch):
        return PASSED
    return Failed(fault + caveat)


def public_acl(bucket: Item) -> Verdict:
    """A grant to everyone, or to everyone with an AWS account."""
    rights = sorted(
        str(grant.get("Permission"))
        for grant in bucket["Grants"] or ()
        if str(grant.get("Grantee", {}).get("URI", "")).endswith(_EVERYONE)
    )
    if not rights:
        return PASSED
    return _opened(bucket, "IgnorePublicAcls", f"The ACL grants everyone {', '.join(rights)}.")


def public_policy(bucket: Item) -> Verdict:
    """A statement for everyone that no condition narrows."""
    opened = open_statements(bucket["Policy"])
    if not opened:
        return PASSED
    fault = f"The bucket policy lets in everyone: {', '.join(opened)}."
    return _opened(bucket, "RestrictPublicBuckets", fault)


def _missing(block: Any) -> list[str]:
    return [switch for switch in _BLOCKS if not (block or {}).get(switch)]


def bucket_block(bucket: Item) -> Verdict:
    """All four switches, on the bucket or the account."""
    account, caveat = _account_switches(bucket)
    missing = [switch for switch in _missing(bucket["Block"]) if not account.get(switch)]
    return unless(bool(missing), f"Off: {', '.join(missing)}.{caveat}")


def whole_account(account: Item) -> Verdict:
    """All four switches on the account."""
    missing = _missing(account["Block"])
    return unless(bool(missing), f"Off for the account: {', '.join(missing)}.")


def encryption(bucket: Item) -> Verdict:
    """A default encryption."""
    return unless(not (bucket["Encryption"] or {}).get("Rules"), "There is no default encryption.")


def tls(bucket: Item) -> Verdict:
    """A policy that denies requests without TLS."""
    return unless(not demands_tls(bucket["Policy"]), "No statement denies requests without TLS.")


def versioning(bucket: Item) -> Verdict:
    """Versions are kept."""
    status = bucket["Versioning"]
    return unless(status != "Enabled", f"Versioning is {'suspended' if status else 'off'}.")


def logging(bucket: Item) -> Verdict:
    """Requests are logged."""
    return unless(not bucket["Logging"], "Access logging is off.")


def lifecycle(bucket: Item) -> Verdict:
    """At least one rule that is on."""
    rules = [rule for rule in bucket["Lifecycle"] or () if rule.get("Status") == "Enabled"]
    return unless(not rules, "No lifecycle rule is on.")


SERVICE = Service(
    name="s3",
    regional=False,
    reference="https://docs.aws.amazon.com/AmazonS3/latest/userguide/security-best-practices.html",
    sources=(
        Source(
            kind=BUCKET,
            collect=buckets,
            checks=(
                Check(
                    id="s3.bucket_public_acl",
                    title="Bucket ACL lets everyone in",
                    severity=Severity.CRITICAL,
                    judge=public_acl,
                    why=(
                        "Anybody on the internet can use what the grant allows: list, read or "
                        "overwrite objects."
                    ),
                    fix=(
                        "Remove the grants, disable ACLs (bucket owner enforced) and turn on "
                        "Block Public Access."
                    ),
                    cis=("2.1.4",),
                ),
                Check(
                    id="s3.bucket_public_policy",
                    title="Bucket policy lets everyone in",
                    severity=Severity.CRITICAL,
                    judge=public_policy,
                    why=(
                        "A statement for every principal without a narrowing condition opens "
                        "the bucket to the internet."
                    ),
                    fix=(
                        "Name the principals, or serve public content through CloudFront with "
                        "origin access control."
                    ),
                    cis=("2.1.4",),
                ),
                Check(
                    id="s3.bucket_public_access_block",
                    title="Bucket does not block public access",
                    severity=Severity.MEDIUM,
                    judge=bucket_block,
                    why="Without the block, one wrong ACL or policy is enough to publish the contents.",
                    fix="Turn on all four switches of Block Public Access for the bucket.",
                    cis=("2.1.4",),
                ),
                Check(
                    id="s3.bucket_encryption",
                    title="Bucket has no default encryption",
                    severity=Severity.MEDIUM,
                    judge=encryption,
                    why="Objects that are written without naming an encryption should not lie in the clear.",
                    fix=(
                        "Set a default encryption with SSE-S3, or with SSE-KMS where access to "
                        "the key must be controlled."
                    ),
                ),
                Check(
                    id="s3.bucket_tls",
                    title="Bucket accepts requests without TLS",
                    severity=Severity.MEDIUM,
                    judge=tls,
                    why="Requests over plain HTTP can be read and changed on the way.",
                    fix='Deny s3:* to everyone in the bucket policy where "aws:SecureTransport" is "false".',
                    cis=("2.1.1",),
                ),
                Check(
                    id="s3.bucket_versioning",
                    title="Bucket keeps no versions",
                    severity=Severity.LOW,
                    judge=versioning,
                    why="Without versions an overwritten or deleted object is gone.",
                    fix="Enable versioning, with a lifecycle rule that ends old versions.",
                    pillars=("reliability", "security"),
                ),
                Check(
                    id="s3.bucket_logging",
                    title="Bucket does not log access",
                    severity=Severity.LOW,
                    judge=logging,
                    why="After an incident nobody can say who read what.",
                    fix="Turn on server access logging to a bucket of its own, or data events in CloudTrail.",
                    cis=("3.4",),
                ),
                Check(
                    id="s3.bucket_lifecycle",
                    title="Bucket has no lifecycle rule",
                    severity=Severity.INFORMATIONAL,
                    judge=lifecycle,
                    why="Objects and unfinished uploads pile up and are paid for every month.",
                    fix="Add rules that move old objects to a cheaper class and abort unfinished uploads.",
                    pillars=("cost-optimization",),
                ),
            ),
        ),
        Source(
            kind=ACCOUNT,
            collect=account_block,
            checks=(
                Check(
                    id="s3.account_public_access_block",
                    title="Account does not block public access to S3",
                    severity=Severity.MEDIUM,
                    judge=whole_account,
                    why="The account's block protects every bucket, also those made tomorrow.",
                    fix="Turn on all four switches of Block Public Access for the account.",
                    cis=("2.1.4",),
                ),
            ),
        ),
    ),
)
