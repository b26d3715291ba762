"""How an MCP server is started for one account: its command, its folder, all of its environment."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fairlead.kernel import toolenv
from fairlead.support.answers.tools import AWS_API, CLOUDTRAIL, CLOUDWATCH

DEFAULT_REGION = "us-east-1"
_LAUNCHER = Path(__file__).parent / "launch.py"
_MODULES = {
    CLOUDTRAIL: "awslabs.cloudtrail_mcp_server.server",
    CLOUDWATCH: "awslabs.cloudwatch_mcp_server.server",
}
# The client would fill these from our own environment.
_NOBODY = {"LOGNAME": "fairlead", "USER": "fairlead", "SHELL": "/bin/sh", "TERM": "dumb"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What is needed to start one server."""

    command: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    home: Path


def prepare(server: str, account: str, environment: Mapping[str, str], *, root: Path, homes: Path) -> Start:
    """How `server` is started for `account`, whose credentials `environment` leads to, and to no others.

    Blocks, for minutes where the server has to be installed under `root` first. Raises toolenv's errors.
    """
    python = toolenv.ensure(server, root=root)
    home = homes / account / server
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    started = (str(_LAUNCHER),) if server == AWS_API else ("-m", _MODULES[server])
    return Start(
        command=str(python),
        arguments=("-I", *started),  # neither the working directory nor anybody's packages are on its path
        environment=variables(environment, home),
        home=home,
    )


def variables(environment: Mapping[str, str], home: Path) -> dict[str, str]:
    """All of a server's environment: what leads to the account, a folder of its own, and our own rules."""
    region = environment.get("AWS_REGION", DEFAULT_REGION)
    return {
        **_NOBODY,
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        **environment,
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_RETRY_MODE": "standard",
        "AWS_MAX_ATTEMPTS": "4",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_API_MCP_TELEMETRY": "false",
        "AWS_API_MCP_SUPPRESS_DEPRECATION_WARNING": "true",
        "AWS_API_MCP_WORKING_DIR": str(home),
        "FASTMCP_LOG_LEVEL": "ERROR",
        "FASTMCP_CHECK_FOR_UPDATES": "off",
        "READ_OPERATIONS_ONLY": "true",
        "HOME": str(home),
        "TMPDIR": str(home),
        "XDG_RUNTIME_DIR": str(home),
    }
