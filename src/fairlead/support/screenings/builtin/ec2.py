"""EC2: instances, security groups, addresses and images."""

from collections.abc import AsyncIterator, Iterable
from typing import Any

from fairlead.support.collect import Reads, tags_of
from fairlead.support.hazards import DATABASE_PORTS, world_rules
from fairlead.support.model import Severity
from fairlead.support.screenings.builtin.checks import (
    Check,
    Item,
    Service,
    Source,
    Verdict,
    item,
    unless,
)

INSTANCE, GROUP = "AWS::EC2::Instance", "AWS::EC2::SecurityGroup"
ADDRESS, IMAGE = "AWS::EC2::EIP", "AWS::EC2::Image"
_GONE = ("terminated", "shutting-down")


async def instances(reads: Reads) -> AsyncIterator[Item]:
    """Instances that are not gone."""
    async for reservation in reads.pages("ec2", "describe_instances", "Reservations"):
        for found in reservation.get("Instances", ()):
            if found.get("State", {}).get("Name") not in _GONE:
                yield _item(reads, INSTANCE, "instance", found["InstanceId"], found)


async def groups(reads: Reads) -> AsyncIterator[Item]:
    """Security groups."""
    async for found in reads.pages("ec2", "describe_security_groups", "SecurityGroups"):
        yield _item(reads, GROUP, "security-group", found["GroupId"], found, name=found.get("GroupName", ""))


async def addresses(reads: Reads) -> AsyncIterator[Item]:
    """Elastic addresses."""
    async for found in reads.pages("ec2", "describe_addresses", "Addresses"):
        uid = found.get("AllocationId") or found["PublicIp"]
        yield _item(reads, ADDRESS, "elastic-ip", uid, found, name=found.get("PublicIp", ""))


async def images(reads: Reads) -> AsyncIterator[Item]:
    """The account's own images."""
    async for found in reads.pages("ec2", "describe_images", "Images", Owners=["self"]):
        yield _item(reads, IMAGE, "image", found["ImageId"], found, name=found.get("Name", ""))


def _item(reads: Reads, kind: str, noun: str, uid: str, facts: dict[str, Any], *, name: str = "") -> Item:
    tags = tags_of(facts.get("Tags"))
    return item(
        reads, kind, reads.arn("ec2", f"{noun}/{uid}"), facts, name=name or tags.get("Name", ""), tags=tags
    )


def imdsv2(instance: Item) -> Verdict:
    """The metadata service is off, or asks for a token."""
    options = instance["MetadataOptions"] or {}
    off = options.get("HttpEndpoint") == "disabled"
    return unless(
        not off and options.get("HttpTokens") != "required", f"HttpTokens is {options.get('HttpTokens')}."
    )


def public_address(instance: Item) -> Verdict:
    """No address on the internet."""
    address = instance.optional("PublicIpAddress")
    return unless(bool(address), f"It has the public address {address}.")


def role(instance: Item) -> Verdict:
    """An instance profile, so that no keys need to lie on the disk."""
    return unless(not instance.optional("IamInstanceProfile"), "It has no instance profile.")


def monitored(instance: Item) -> Verdict:
    """Metrics every minute."""
    state = (instance["Monitoring"] or {}).get("State")
    return unless(state not in ("enabled", "pending"), f"Detailed monitoring is {state}.")


def _open_ports(group: Item, ports: Iterable[int]) -> Verdict:
    rules = [rule for rule in world_rules(group["IpPermissions"]) if rule[0] in ("tcp", "6", "-1")]
    hits = sorted(
        {(port, block) for port in ports for _, first, last, block in rules if first <= port <= last}
    )
    return unless(bool(hits), "Open: " + ", ".join(f"port {port} to {block}" for port, block in hits) + ".")


def ssh(group: Item) -> Verdict:
    """Port 22 is not open to the internet."""
    return _open_ports(group, (22,))


def rdp(group: Item) -> Verdict:
    """Port 3389 is not open to the internet."""
    return _open_ports(group, (3389,))


def databases(group: Item) -> Verdict:
    """No port of a database is open to the internet."""
    return _open_ports(group, DATABASE_PORTS)


def all_ports(group: Item) -> Verdict:
    """No rule opens everything to the internet."""
    blocks = sorted(
        {
            block
            for _, first, last, block in world_rules(group["IpPermissions"])
            if (first, last) == (0, 65535)
        }
    )
    return unless(bool(blocks), f"Every port is open to {', '.join(blocks)}.")


def default_group(group: Item) -> Verdict:
    """A VPC's default group has no rules at all."""
    if group["GroupName"] != "default":
        return None
    inbound, outbound = len(group["IpPermissions"]), len(group["IpPermissionsEgress"])
    return unless(inbound + outbound > 0, f"It has {inbound} inbound and {outbound} outbound rules.")


def idle_address(address: Item) -> Verdict:
    """The address is attached to something."""
    used = (
        address.optional("AssociationId")
        or address.optional("InstanceId")
        or address.optional("NetworkInterfaceId")
    )
    return unless(not used, "It is attached to nothing.")


def public_image(image: Item) -> Verdict:
    """The image is not for everyone."""
    return unless(image["Public"], "Everyone can launch it.")


SERVICE = Service(
    name="ec2",
    reference="https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-security.html",
    sources=(
        Source(
            kind=INSTANCE,
            collect=instances,
            checks=(
                Check(
                    id="ec2.instance_imdsv2",
                    title="Instance does not require IMDSv2",
                    severity=Severity.MEDIUM,
                    judge=imdsv2,
                    why=(
                        "Through version 1 a forged request of a web application can fetch the "
                        "role's credentials."
                    ),
                    fix="Set HttpTokens to required, on the instance and as the account's default.",
                    cis=("5.6",),
                ),
                Check(
                    id="ec2.instance_public_address",
                    title="Instance has a public address",
                    severity=Severity.LOW,
                    judge=public_address,
                    why="Whatever listens on it is one security group rule away from the internet.",
                    fix="Put it into a private subnet, behind a load balancer or Session Manager.",
                ),
                Check(
                    id="ec2.instance_role",
                    title="Instance has no role",
                    severity=Severity.LOW,
                    judge=role,
                    why="Programs on it that call AWS need long-lived keys on its disk.",
                    fix="Attach an instance profile with the permissions that its programs need.",
                    cis=("1.18",),
                ),
                Check(
                    id="ec2.instance_monitoring",
                    title="Instance has no detailed monitoring",
                    severity=Severity.INFORMATIONAL,
                    judge=monitored,
                    why="Metrics every five minutes show trouble late.",
                    fix="Enable detailed monitoring where minutes matter.",
                    pillars=("operational-excellence", "performance-efficiency"),
                ),
            ),
        ),
        Source(
            kind=GROUP,
            collect=groups,
            checks=(
                Check(
                    id="ec2.security_group_ssh",
                    title="Security group opens SSH to the internet",
                    severity=Severity.HIGH,
                    judge=ssh,
                    why=(
                        "Port 22 on the internet is tried around the clock with stolen and "
                        "guessed credentials."
                    ),
                    fix="Allow only known addresses, or use Session Manager and close the port.",
                    cis=("5.2", "5.3"),
                ),
                Check(
                    id="ec2.security_group_rdp",
                    title="Security group opens RDP to the internet",
                    severity=Severity.HIGH,
                    judge=rdp,
                    why="Port 3389 on the internet is a usual way in for ransomware.",
                    fix="Allow only known addresses, or use Fleet Manager and close the port.",
                    cis=("5.2", "5.3"),
                ),
                Check(
                    id="ec2.security_group_database",
                    title="Security group opens a database port to the internet",
                    severity=Severity.HIGH,
                    judge=databases,
                    why="Databases and caches are made for private networks; some ask for no password.",
                    fix="Allow only the security groups of the applications that use it.",
                ),
                Check(
                    id="ec2.security_group_all_ports",
                    title="Security group opens every port to the internet",
                    severity=Severity.CRITICAL,
                    judge=all_ports,
                    why="Everything that listens, also by mistake, can be reached by anybody.",
                    fix="Replace the rule by one for each port that must be reached.",
                    cis=("5.2", "5.3"),
                ),
                Check(
                    id="ec2.default_security_group",
                    title="Default security group has rules",
                    severity=Severity.LOW,
                    judge=default_group,
                    why=(
                        "What is launched without a group gets this one, and then may talk to "
                        "everything in it."
                    ),
                    fix="Remove all its rules and give every resource a group of its own.",
                    cis=("5.4",),
                ),
            ),
        ),
        Source(
            kind=ADDRESS,
            collect=addresses,
            checks=(
                Check(
                    id="ec2.address_idle",
                    title="Elastic IP is attached to nothing",
                    severity=Severity.LOW,
                    judge=idle_address,
                    why="It costs by the hour, and DNS records may still point at it.",
                    fix="Release it after removing the records that name it.",
                    pillars=("cost-optimization",),
                ),
            ),
        ),
        Source(
            kind=IMAGE,
            collect=images,
            checks=(
                Check(
                    id="ec2.image_public",
                    title="Image is public",
                    severity=Severity.HIGH,
                    judge=public_image,
                    why="Everyone can start it and read what is on its disks, keys and data included.",
                    fix="Make it private, share it with named accounts, and replace secrets that were on it.",
                ),
            ),
        ),
    ),
)
