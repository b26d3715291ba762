"""How a local MCP server is started: its command, its private folder, its environment."""

import contextlib
from collections.abc import Mapping
from pathlib import Path

from fairlead.kernel import toolenv
from fairlead.kernel.settings import AwsSettings

SERVER = "aws-api-mcp-server"
_LOOPBACK = "127.0.0.1,localhost,::1"
_LAUNCHER = Path(__file__).parent / "launch.py"

# Of our own environment a server gets only what says how to reach the network ...
_NETWORK_VARIABLES = (
    "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE",
)  # fmt: skip
# ... and, where the settings name no keys, where AWS's own chain finds credentials.
_CREDENTIAL_VARIABLES = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE",
    "AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME", "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
)  # fmt: skip


def start_command(command: tuple[str, ...] | None, toolenv_root: Path) -> tuple[str, ...]:
    """Words that start a local server: ours, or `command`, whose first word may name a locked tool."""
    if command is None:
        # Isolated: neither the working directory nor the user's packages are on its path.
        return (str(toolenv.ensure(SERVER, root=toolenv_root)), "-I", str(_LAUNCHER))
    if (toolenv.locks_dir() / f"{command[0]}.txt").is_file():
        return (str(toolenv.ensure(command[0], root=toolenv_root).parent / command[0]), *command[1:])
    return command


def variables(
    settings: AwsSettings, home: Path, *, read_only: bool, inherited: Mapping[str, str]
) -> dict[str, str]:
    """The environment of a local server: credentials go here and nowhere else (never in its argv).

    `home` is a folder of its own, so nothing is written to the user's.
    """
    found = {name: inherited[name] for name in _NETWORK_VARIABLES if name in inherited}
    found |= _credentials(settings, inherited)
    no_proxy = ",".join(filter(None, (inherited.get("NO_PROXY") or inherited.get("no_proxy"), _LOOPBACK)))
    found |= {
        "NO_PROXY": no_proxy,  # the sandbox is never behind a proxy
        "no_proxy": no_proxy,
        "AWS_REGION": settings.region,
        "AWS_DEFAULT_REGION": settings.region,
        "AWS_MAX_ATTEMPTS": "1",  # its retries would block the server; ours have jitter
        "AWS_API_MCP_TELEMETRY": "false",
        "AWS_API_MCP_SUPPRESS_DEPRECATION_WARNING": "true",
        "AWS_API_MCP_WORKING_DIR": str(home),
        "FASTMCP_LOG_LEVEL": "WARNING",
        "FASTMCP_CHECK_FOR_UPDATES": "off",
        "READ_OPERATIONS_ONLY": "true" if read_only else "false",
        "HOME": str(home),
        "TMPDIR": str(home),
        "XDG_RUNTIME_DIR": str(home),
    }
    if settings.endpoint_url:
        found["AWS_ENDPOINT_URL"] = settings.endpoint_url
    return found


def _credentials(settings: AwsSettings, inherited: Mapping[str, str]) -> dict[str, str]:
    if settings.access_key_id and settings.secret_access_key:
        keys = {
            "AWS_ACCESS_KEY_ID": settings.access_key_id,
            "AWS_SECRET_ACCESS_KEY": settings.secret_access_key.get_secret_value(),
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        if settings.session_token:
            keys["AWS_SESSION_TOKEN"] = settings.session_token.get_secret_value()
        return keys
    users = Path(inherited.get("HOME", "/")) / ".aws"
    files = {
        "AWS_CONFIG_FILE": inherited.get("AWS_CONFIG_FILE", str(users / "config")),
        "AWS_SHARED_CREDENTIALS_FILE": inherited.get(
            "AWS_SHARED_CREDENTIALS_FILE", str(users / "credentials")
        ),
    }
    if settings.profile:
        return {**files, "AWS_PROFILE": settings.profile, "AWS_API_MCP_PROFILE_NAME": settings.profile}
    return files | {name: inherited[name] for name in _CREDENTIAL_VARIABLES if name in inherited}


def prepare_home(home: Path, settings: AwsSettings) -> None:
    """Make the servers' private folder; a profile with single sign-on finds its sign-in there."""
    (home / ".aws").mkdir(mode=0o700, parents=True, exist_ok=True)
    home.chmod(0o700)
    sign_ins = Path.home() / ".aws" / "sso"
    if settings.access_key_id is None and sign_ins.is_dir():
        with contextlib.suppress(FileExistsError):
            (home / ".aws" / "sso").symlink_to(sign_ins)
