"""What the API's own routes need, opened elsewhere and handed over in one record."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from fairlead.api.health import Health
from fairlead.kernel.db import Database
from fairlead.kernel.projects.model import ProjectSettings
from fairlead.kernel.projects.tokens import SigningKey
from fairlead.kernel.runs.service import Runs


def any_settings(_: ProjectSettings) -> None:
    """The settings check of a server without capabilities: all are fine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiParts:
    """Opened parts, and the questions that only capabilities can answer."""

    database: Database
    signing_key: SigningKey
    runs: Runs
    health: Health
    check_settings: Callable[[ProjectSettings], None] = any_settings  # raises InvalidInput
    stream_check_s: float = 10.0  # how often a stream's reader is authorised again
    heartbeat_s: float = 15.0  # longest silence on a stream


def api_parts(request: Request) -> ApiParts:
    """The parts that `build_app` was given."""
    parts: ApiParts = request.app.state.api
    return parts


Parts = Annotated[ApiParts, Depends(api_parts)]
