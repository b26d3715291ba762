"""EFS: encryption, backups and access of file systems."""

from collections.abc import AsyncIterator
from typing import Any

from fairlead.support.collect import Reads, details, tags_of
from fairlead.support.model import Severity
from fairlead.support.screenings.builtin.checks import Check, Item, Service, Source, Verdict, item, unless
from fairlead.support.screenings.builtin.policies import open_statements

FILE_SYSTEM = "AWS::EFS::FileSystem"


async def file_systems(reads: Reads) -> AsyncIterator[Item]:
    """File systems with their backup and access policies."""

    async def look(found: dict[str, Any]) -> Item:
        uid = found["FileSystemId"]
        facts = {
            **found,
            "Backup": await reads.fact(
                "efs", "describe_backup_policy", lambda a: a["BackupPolicy"]["Status"],
                absent=("PolicyNotFound",), FileSystemId=uid,
            ),
            "Policy": await reads.fact(
                "efs", "describe_file_system_policy", lambda a: a.get("Policy"),
                absent=("PolicyNotFound",), FileSystemId=uid,
            ),
        }  # fmt: skip
        arn = found.get("FileSystemArn") or reads.arn("elasticfilesystem", f"file-system/{uid}")
        return item(
            reads, FILE_SYSTEM, arn, facts, name=found.get("Name") or uid, tags=tags_of(found.get("Tags"))
        )

    async for found in details(reads.pages("efs", "describe_file_systems", "FileSystems"), look):
        yield found


def encrypted(file_system: Item) -> Verdict:
    """Encrypted on disk."""
    return unless(not file_system["Encrypted"], "It is not encrypted.")


def backups(file_system: Item) -> Verdict:
    """AWS Backup keeps copies."""
    return unless(file_system["Backup"] not in ("ENABLED", "ENABLING"), "Automatic backups are off.")


def public_policy(file_system: Item) -> Verdict:
    """Not everyone may mount it."""
    opened = open_statements(file_system["Policy"])
    return unless(bool(opened), f"Everyone who reaches it may use it: {', '.join(opened)}.")


SERVICE = Service(
    name="efs",
    reference="https://docs.aws.amazon.com/efs/latest/ug/security-considerations.html",
    sources=(
        Source(
            kind=FILE_SYSTEM,
            collect=file_systems,
            checks=(
                Check(
                    id="efs.file_system_encryption",
                    title="File system is not encrypted",
                    severity=Severity.HIGH,
                    judge=encrypted,
                    why="Its files lie in the clear, and this cannot be switched on later.",
                    fix="Create an encrypted file system and copy the files.",
                    cis=("2.4.1",),
                ),
                Check(
                    id="efs.file_system_backups",
                    title="File system has no automatic backups",
                    severity=Severity.MEDIUM,
                    judge=backups,
                    why="Deleted and damaged files cannot be brought back.",
                    fix="Turn on automatic backups.",
                    pillars=("reliability",),
                ),
                Check(
                    id="efs.file_system_public_policy",
                    title="Everyone who reaches the file system may use it",
                    severity=Severity.MEDIUM,
                    judge=public_policy,
                    why="The policy asks nobody who they are.",
                    fix="Name the roles, or tie the statement to access points.",
                ),
            ),
        ),
    ),
)
