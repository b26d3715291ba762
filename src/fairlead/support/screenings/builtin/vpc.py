"""VPC: flow logs, network ACLs and subnets."""

from collections.abc import AsyncIterator
from typing import Any

from fairlead.support.collect import Reads, Unreadable, tags_of
from fairlead.support.hazards import is_world
from fairlead.support.model import Severity
from fairlead.support.screenings.builtin.checks import Check, Item, Service, Source, Verdict, item, unless

VPC, NETWORK_ACL, SUBNET = "AWS::EC2::VPC", "AWS::EC2::NetworkAcl", "AWS::EC2::Subnet"
_ADMIN_PORTS = (22, 3389)


async def vpcs(reads: Reads) -> AsyncIterator[Item]:
    """VPCs with the flow logs that are made of them."""
    logs = await reads.all_of("ec2", "describe_flow_logs", "FlowLogs")
    async for found in reads.pages("ec2", "describe_vpcs", "Vpcs"):
        uid = found["VpcId"]
        own: Any = (
            logs if isinstance(logs, Unreadable) else [log for log in logs if log.get("ResourceId") == uid]
        )
        yield _item(reads, VPC, "vpc", uid, {**found, "FlowLogs": own})


async def network_acls(reads: Reads) -> AsyncIterator[Item]:
    """Network ACLs."""
    async for found in reads.pages("ec2", "describe_network_acls", "NetworkAcls"):
        yield _item(reads, NETWORK_ACL, "network-acl", found["NetworkAclId"], found)


async def subnets(reads: Reads) -> AsyncIterator[Item]:
    """Subnets."""
    async for found in reads.pages("ec2", "describe_subnets", "Subnets"):
        yield _item(reads, SUBNET, "subnet", found["SubnetId"], found)


def _item(reads: Reads, kind: str, noun: str, uid: str, facts: dict[str, Any]) -> Item:
    tags = tags_of(facts.get("Tags"))
    return item(reads, kind, reads.arn("ec2", f"{noun}/{uid}"), facts, name=tags.get("Name", uid), tags=tags)


def flow_logs(vpc: Item) -> Verdict:
    """At least one active flow log."""
    active = [log for log in vpc["FlowLogs"] if log.get("FlowLogStatus", "ACTIVE") == "ACTIVE"]
    return unless(not active, "There is no active flow log.")


def admin_ports(acl: Item) -> Verdict:
    """The internet cannot reach 22 or 3389. Rules count in their order: the first that matches decides."""
    rules = sorted(
        (entry for entry in acl["Entries"] if not entry.get("Egress")), key=lambda e: int(e["RuleNumber"])
    )
    hits = [port for port in _ADMIN_PORTS if _lets_in(rules, port)]
    if acl.optional("IsDefault") and not acl.optional("Associations"):
        return None  # of no effect: nothing uses it
    return unless(bool(hits), f"The internet reaches port {' and '.join(map(str, hits))}.")


def _lets_in(rules: list[dict[str, Any]], port: int) -> bool:
    for rule in rules:
        span = rule.get("PortRange") or {}
        covers = str(rule.get("Protocol")) == "-1" or (
            str(rule.get("Protocol")) == "6"
            and int(span.get("From", 0)) <= port <= int(span.get("To", 65535))
        )
        if covers and is_world(str(rule.get("CidrBlock") or rule.get("Ipv6CidrBlock"))):
            return str(rule.get("RuleAction")) == "allow"
    return False


def no_public_addresses(subnet: Item) -> Verdict:
    """Instances get no public address unasked. The subnets of a default VPC are made to give one."""
    if subnet.optional("DefaultForAz"):
        return None
    return unless(subnet["MapPublicIpOnLaunch"], "Every instance in it gets a public address.")


SERVICE = Service(
    name="vpc",
    reference="https://docs.aws.amazon.com/vpc/latest/userguide/vpc-security-best-practices.html",
    sources=(
        Source(
            kind=VPC,
            collect=vpcs,
            checks=(
                Check(
                    id="vpc.flow_logs",
                    title="VPC has no flow log",
                    severity=Severity.MEDIUM,
                    judge=flow_logs,
                    why="Without a record of connections an intrusion cannot be followed.",
                    fix="Create a flow log to CloudWatch Logs or S3, at least of rejected traffic.",
                    cis=("3.7",),
                    pillars=("security", "operational-excellence"),
                ),
            ),
        ),
        Source(
            kind=NETWORK_ACL,
            collect=network_acls,
            checks=(
                Check(
                    id="vpc.network_acl_admin_ports",
                    title="Network ACL lets the internet reach SSH or RDP",
                    severity=Severity.LOW,
                    judge=admin_ports,
                    why="The ACL is the second line when a security group is opened by mistake.",
                    fix="Deny 22 and 3389 from 0.0.0.0/0 and ::/0 before the rule that allows the rest.",
                    cis=("5.1",),
                ),
            ),
        ),
        Source(
            kind=SUBNET,
            collect=subnets,
            checks=(
                Check(
                    id="vpc.subnet_public_addresses",
                    title="Subnet gives every instance a public address",
                    severity=Severity.LOW,
                    judge=no_public_addresses,
                    why="Instances become reachable without anybody having asked for it.",
                    fix="Turn off MapPublicIpOnLaunch and give addresses only to what needs one.",
                ),
            ),
        ),
    ),
)
