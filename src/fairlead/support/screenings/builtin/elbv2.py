"""Load balancers: encryption on the way, logs and protection."""

from collections.abc import AsyncIterator
from typing import Any

from fairlead.support.collect import Reads, Unreadable, details
from fairlead.support.model import Severity
from fairlead.support.screenings.builtin.checks import (
    PASSED,
    Check,
    Failed,
    Item,
    Service,
    Source,
    Verdict,
    item,
    unless,
)

BALANCER, LISTENER = "AWS::ElasticLoadBalancingV2::LoadBalancer", "AWS::ElasticLoadBalancingV2::Listener"
# Policies whose name says that they take TLS 1.0 or 1.1.
_OLD_POLICIES = frozenset(
    {
        "ELBSecurityPolicy-2016-08",
        "ELBSecurityPolicy-2015-05",
        "ELBSecurityPolicy-FS-2018-06",
        "ELBSecurityPolicy-TLS-1-0-2015-04",
        "ELBSecurityPolicy-TLS-1-1-2017-01",
        "ELBSecurityPolicy-FS-1-1-2019-08",
        "ELBSecurityPolicy-TLS13-1-0-2021-06",
        "ELBSecurityPolicy-TLS13-1-1-2021-06",
    }
)


async def balancers(reads: Reads) -> AsyncIterator[Item]:
    """Load balancers with their attributes."""

    async def look(found: dict[str, Any]) -> Item:
        attributes = await reads.fact(
            "elbv2",
            "describe_load_balancer_attributes",
            lambda a: {pair["Key"]: pair["Value"] for pair in a["Attributes"]},
            LoadBalancerArn=found["LoadBalancerArn"],
        )
        facts = {**found, "Attributes": attributes}
        return item(reads, BALANCER, found["LoadBalancerArn"], facts, name=found["LoadBalancerName"])

    async for found in details(reads.pages("elbv2", "describe_load_balancers", "LoadBalancers"), look):
        yield found


async def listeners(reads: Reads) -> AsyncIterator[Item]:
    """Listeners of every load balancer."""

    async def look(found: dict[str, Any]) -> list[Item]:
        name, arn = found["LoadBalancerName"], found["LoadBalancerArn"]
        own = await reads.all_of("elbv2", "describe_listeners", "Listeners", LoadBalancerArn=arn)
        if isinstance(own, Unreadable):
            # One stand-in, so that its checks are told as not assessed.
            unread = {"Protocol": own, "DefaultActions": own, "SslPolicy": own}
            return [item(reads, LISTENER, f"{arn}/listeners", unread, name=name)]
        return [
            item(reads, LISTENER, one["ListenerArn"], one, name=f"{name}:{one.get('Port', '')}")
            for one in own
        ]

    async for several in details(reads.pages("elbv2", "describe_load_balancers", "LoadBalancers"), look):
        for found in several:
            yield found


def _attribute(balancer: Item, key: str) -> str:
    """An attribute. Raises NotAssessed where the answer leaves it out."""
    return str(Item(resource=balancer.resource, facts=balancer["Attributes"], seen_at=balancer.seen_at)[key])


def access_logs(balancer: Item) -> Verdict:
    """Requests are logged."""
    return unless(_attribute(balancer, "access_logs.s3.enabled") != "true", "Access logs are off.")


def protection(balancer: Item) -> Verdict:
    """It cannot be deleted by one call."""
    return unless(
        _attribute(balancer, "deletion_protection.enabled") != "true", "Deletion protection is off."
    )


def invalid_headers(balancer: Item) -> Verdict:
    """Malformed headers are dropped. Only application load balancers read headers."""
    if balancer["Type"] != "application":
        return None
    kept = _attribute(balancer, "routing.http.drop_invalid_header_fields.enabled") != "true"
    return unless(kept, "Malformed headers are passed on.")


def plain_http(listener: Item) -> Verdict:
    """HTTP only sends people on to HTTPS."""
    if listener["Protocol"] != "HTTP":
        return None
    for action in listener["DefaultActions"]:
        if (
            action.get("Type") == "redirect"
            and (action.get("RedirectConfig") or {}).get("Protocol") == "HTTPS"
        ):
            return PASSED
    return Failed("It answers over plain HTTP.")


def old_tls(listener: Item) -> Verdict:
    """TLS 1.2 at least."""
    if listener["Protocol"] not in ("HTTPS", "TLS"):
        return None
    policy = listener["SslPolicy"]
    return unless(policy in _OLD_POLICIES, f"{policy} takes TLS 1.0 or 1.1.")


SERVICE = Service(
    name="elbv2",
    reference="https://docs.aws.amazon.com/elasticloadbalancing/latest/application/create-https-listener.html",
    sources=(
        Source(
            kind=BALANCER,
            collect=balancers,
            checks=(
                Check(
                    id="elbv2.load_balancer_logs",
                    title="Load balancer does not log requests",
                    severity=Severity.LOW,
                    judge=access_logs,
                    why="After an incident nobody can say who asked for what.",
                    fix="Turn on access logs to an S3 bucket.",
                    pillars=("security", "operational-excellence"),
                ),
                Check(
                    id="elbv2.load_balancer_deletion_protection",
                    title="Load balancer can be deleted by one call",
                    severity=Severity.LOW,
                    judge=protection,
                    why="A mistake in a script takes the site off the internet.",
                    fix="Turn on deletion protection.",
                    pillars=("reliability",),
                ),
                Check(
                    id="elbv2.load_balancer_invalid_headers",
                    title="Load balancer passes malformed headers on",
                    severity=Severity.LOW,
                    judge=invalid_headers,
                    why="Malformed headers smuggle requests past what checks them.",
                    fix="Set routing.http.drop_invalid_header_fields.enabled.",
                ),
            ),
        ),
        Source(
            kind=LISTENER,
            collect=listeners,
            checks=(
                Check(
                    id="elbv2.listener_plain_http",
                    title="Listener answers over plain HTTP",
                    severity=Severity.MEDIUM,
                    judge=plain_http,
                    why="Passwords and sessions can be read on the way.",
                    fix="Redirect to HTTPS.",
                ),
                Check(
                    id="elbv2.listener_old_tls",
                    title="Listener takes old versions of TLS",
                    severity=Severity.MEDIUM,
                    judge=old_tls,
                    why="TLS 1.0 and 1.1 are broken and forbidden by card and privacy rules.",
                    fix="Choose a policy with TLS 1.2 and 1.3 only.",
                ),
            ),
        ),
    ),
)
