"""About the server itself: is it well, what is it, what does it count; and the whole audit record."""

import ipaddress
from dataclasses import asdict
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response
from fastapi.security import HTTPAuthorizationCredentials
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, Field

from fairlead import __version__
from fairlead.api.health import condition
from fairlead.api.parts import Parts
from fairlead.kernel import audit, telemetry
from fairlead.kernel.http import CurrentActor, bearer, client_address, current_actor
from fairlead.kernel.projects.access import NotAdmin, require_admin

router = APIRouter(tags=["server"])


class CheckOut(BaseModel):
    """One dependency."""

    ok: bool
    latency_ms: float
    needed: bool = Field(
        description="Without it the server is unavailable; else degraded, and nothing is lost"
    )


class HealthOut(BaseModel):
    """The server and what it depends on."""

    status: Literal["ok", "degraded", "unavailable"]
    checks: dict[str, CheckOut]


class VersionOut(BaseModel):
    """What is running."""

    name: str = "fairlead"
    version: str


class AuditVerdictOut(BaseModel):
    """Whether the audit record is as it was written."""

    intact: bool
    first_broken_seq: int | None = Field(description="Entry that was changed or is missing")
    newest_seq: int | None
    newest_sha256: str | None = Field(description="Keep it elsewhere: it shows if newer entries were cut off")


@router.get("/health", response_model=HealthOut, responses={503: {"model": HealthOut}})
async def health(api: Parts) -> Response:
    """200 when everything needed answers, else 503. Open to all; says what, never why."""
    verdicts = await api.health.report()
    checks = {name: CheckOut(**asdict(one)) for name, one in verdicts.items()}
    status = condition(verdicts.values())
    out = HealthOut(status=status, checks=checks)
    return JSONResponse(out.model_dump(), status_code=503 if status == "unavailable" else 200)


@router.get("/version")
def version() -> VersionOut:
    """The server's version."""
    return VersionOut(version=__version__)


@router.get("/metrics", response_class=Response, responses={200: {"content": {CONTENT_TYPE_LATEST: {}}}})
def metrics(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]
) -> Response:
    """Metrics in the Prometheus text format: for this machine, or with any token of an administrator."""
    if credentials is not None or not _is_loopback(client_address(request)):
        actor = current_actor(request, credentials)
        if not actor.is_admin:
            raise NotAdmin(remedy="Ask an administrator.")
    return Response(telemetry.exposition(), media_type=CONTENT_TYPE_LATEST)


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


@router.get("/audit/verify", tags=["audit"])
def verify_audit(actor: CurrentActor, api: Parts) -> AuditVerdictOut:
    """Check the whole audit record. Administrators only; takes a while on a long one."""
    require_admin(actor)
    with api.database.reading() as conn:
        broken = audit.verify(conn)
        newest = audit.newest(conn)
    return AuditVerdictOut(
        intact=broken is None,
        first_broken_seq=broken,
        newest_seq=newest.seq if newest else None,
        newest_sha256=newest.sha256 if newest else None,
    )
