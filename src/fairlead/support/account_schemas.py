"""The shapes at the door of customers, bindings and agents."""

import re
from typing import Annotated, Any, Literal
from zoneinfo import available_timezones

from fastapi import Path
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from fairlead.kernel.clock import iso
from fairlead.kernel.http import PlainText
from fairlead.kernel.settings import SupportAccessSettings
from fairlead.support.accounts import Assignment, Binding
from fairlead.support.model import AgentRole, Customer, Language

ROLE_NAME = r"^[A-Za-z0-9+=,.@_-]{1,64}$"
PRINCIPAL = "ARN_OF_THE_ROLE_OR_USER_OF_THIS_SERVER"
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-[0-9]")

AccountPath = Annotated[str, Path(pattern=r"^[0-9]{12}$", description="AWS account: twelve digits")]
ZendeskId = Annotated[str, Path(pattern=r"^[1-9][0-9]{0,19}$", description="Id in Zendesk: digits")]


def _timezone(value: str) -> str:
    if value not in available_timezones():
        raise ValueError("must be an IANA time zone such as Asia/Seoul")
    return value


def _regions(value: tuple[str, ...]) -> tuple[str, ...]:
    if any(not _REGION.fullmatch(region) for region in value):
        raise ValueError("must be names of regions such as ap-northeast-2")
    return tuple(sorted(set(value)))


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CustomerIn(_Body):
    """All of a customer but the account, which the address names."""

    name: PlainText = Field(min_length=1, max_length=200)
    access: Literal["role", "own"] = Field(
        default="role",
        description="role: a role in the customer's account, with an ExternalId that is made once; "
        "own: the server's own account and credentials",
    )
    role_name: str | None = Field(default=None, pattern=ROLE_NAME, description="null: that of the settings")
    regions: Annotated[tuple[str, ...], AfterValidator(_regions)] = Field(
        default=(), max_length=50, description="Regions to look into; empty: all that are switched on"
    )
    language: Language = Language.KOREAN
    timezone: Annotated[str, AfterValidator(_timezone)] = "Asia/Seoul"
    new_external_id: bool = Field(
        default=False,
        description="Replace the ExternalId; access ends until the trust policy has the new one",
    )


class AgentRoleIn(_Body):
    """What an agent may do."""

    role: AgentRole


class TicketAccountIn(_Body):
    """The account that a ticket is about."""

    account: str = Field(pattern=r"^[0-9]{12}$")


class RenewIn(_Body):
    """The session to renew."""

    session: str = Field(min_length=1, max_length=8192)


def customer_out(one: Customer, access: SupportAccessSettings, *, manages: bool) -> dict[str, Any]:
    """One customer; its ExternalId and trust policy only for those who manage customers."""
    shown: dict[str, Any] = {
        "account": one.account,
        "name": one.name,
        "access": "own" if one.external_id is None else "role",
        "role_name": one.role_name or access.role_name,
        "regions": list(one.regions),
        "language": one.language.value,
        "timezone": one.timezone,
    }
    if not manages:
        return shown
    return {**shown, "external_id": one.external_id, "trust_policy": trust_policy(one, access)}


def trust_policy(one: Customer, access: SupportAccessSettings) -> dict[str, Any] | None:
    """What the customer's role has to trust; None where no role is assumed.

    The principal is the hub role; where the settings have none, an administrator fills it in.
    """
    if one.external_id is None:
        return None
    actions = ["sts:AssumeRole"]
    if access.tag_sessions:
        actions += ["sts:TagSession", "sts:SetSourceIdentity"]
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": access.hub_role_arn or PRINCIPAL},
        "Action": actions if len(actions) > 1 else actions[0],
        "Condition": {"StringEquals": {"sts:ExternalId": one.external_id}},
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


def binding_out(one: Binding) -> dict[str, Any]:
    """One binding."""
    return {
        "kind": one.kind.value,
        "zendesk_id": one.zendesk_id,
        "account": one.account,
        "created_at": iso(one.created_at),
        "created_by": one.created_by,
    }


def agent_out(one: Assignment) -> dict[str, Any]:
    """One agent's role."""
    return {
        "installation": one.installation,
        "user": one.user,
        "role": one.role.value,
        "created_at": iso(one.created_at),
        "created_by": one.created_by,
    }
