"""One frozen model of everything that can be configured.

Read once, in the composition root: environment (`FAIRLEAD_…`, nested names joined by `__`), then
the TOML file named by `FAIRLEAD_CONFIG` (default `fairlead.toml` where it exists), then defaults.
An unknown key is an error, not a shrug.
"""

import os
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from fairlead.kernel.errors import SettingsInvalid

PREFIX = "FAIRLEAD_"
# Read by the command line itself (where the server is, who is calling), not by the server.
CLIENT_VARIABLES = {"FAIRLEAD_CONFIG", "FAIRLEAD_URL", "FAIRLEAD_TOKEN", "FAIRLEAD_PROJECT"}


def _data_dir() -> Path:
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")  # noqa: TID251
    return Path(base) / "fairlead"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HttpSettings(_Section):
    """Where the API listens."""

    host: str = "127.0.0.1"
    port: int = Field(default=8700, ge=0, le=65535)


class ObjectSettings(_Section):
    """Where state versions and reports are kept."""

    url: str | None = None  # file:///path, s3://bucket/prefix, memory:// ; default: folder in data_dir
    endpoint_url: str | None = None  # an S3 other than AWS's
    region: str | None = None
    access_key_id: str | None = None
    secret_access_key: SecretStr | None = None


class McpSettings(_Section):
    """How AWS MCP servers are reached."""

    transport: Literal["stdio", "http"] = "stdio"  # local pool, or a streamable-HTTP endpoint
    url: str | None = None  # http only: where it is
    read_url: str | None = None  # http only: a read-only endpoint; default: `url`
    command: tuple[str, ...] | None = None  # stdio only: another server or mcp-proxy-for-aws
    tool: str = "call_aws"  # the managed server calls it aws___call_aws
    warm: bool = True  # start the servers with the worker rather than with the first call
    readers: int = Field(default=1, ge=1, le=32)  # processes
    writers: int = Field(default=2, ge=1, le=32)  # processes
    call_timeout_s: float = Field(default=60.0, gt=0)
    calls_per_second: float = Field(default=20.0, gt=0)


class AwsSettings(_Section):
    """The account that changes are applied to."""

    region: str = "us-east-1"
    endpoint_url: str | None = None  # the sandbox's address; default: AWS itself
    profile: str | None = None
    access_key_id: str | None = None
    secret_access_key: SecretStr | None = None
    session_token: SecretStr | None = None
    mcp: McpSettings = McpSettings()


class RunSettings(_Section):
    """How runs are executed and kept."""

    approval_deadline_s: float = Field(default=86_400.0, gt=0)  # default of a project
    apply_parallelism: int = Field(default=10, ge=1, le=64)
    retention_days: int = Field(default=90, ge=1)
    poll_s: float = Field(default=0.25, gt=0)  # how often waiting runs look (SQLite; PostgreSQL notifies)
    metrics_port: int | None = Field(default=None, ge=0, le=65535)  # of a worker, on loopback
    liveness_interval_s: float = Field(default=3.0, gt=0)


_SLURM_NAME = r"^[A-Za-z0-9_.][A-Za-z0-9._:,=@+-]{0,99}$"


class CaseHostSettings(_Section):
    """A machine that calculates doses."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")
    executor: Literal["local", "ssh", "slurm"] = "local"  # slurm is spoken to over SSH
    work_dir: str = Field(pattern=r"^/")  # absolute, there; only folders that Fairlead marked are touched
    python: str = "python3"  # there; an interpreter that has Fairlead installed
    slots: int = Field(default=1, ge=1, le=1024)  # beams at once, where `gpus` is 0 or Slurm decides
    gpus: int = Field(default=0, ge=0, le=64)  # per beam; above 0 the host's own are found and leased
    address: str | None = None  # ssh and slurm
    port: int = Field(default=22, ge=1, le=65535)
    user: str | None = None
    known_hosts: Path | None = None  # pinned host keys; nothing is ever trusted on first use
    identity_file: Path | None = None
    passphrase: SecretStr | None = None  # of identity_file
    agent: Path | None = None  # socket of an SSH agent; without it and identity_file there is no key
    partition: str | None = Field(default=None, pattern=_SLURM_NAME)  # this and the rest: slurm
    account: str | None = Field(default=None, pattern=_SLURM_NAME)
    qos: str | None = Field(default=None, pattern=_SLURM_NAME)
    gpu_resource: str = Field(default="gpu", pattern=_SLURM_NAME)  # as --gres calls it: gpu, or gpu:a100


class CaseCriteriaSettings(_Section):
    """When planned and delivered dose agree; all of them have to hold."""

    dose_percent: float = Field(default=3.0, gt=0, le=100)
    distance_mm: float = Field(default=3.0, gt=0, le=50)
    cutoff_percent: float = Field(default=10.0, ge=0, lt=100)
    normalisation: Literal["global", "local"] = "global"
    pass_rate_percent: float = Field(default=95.0, gt=0, le=100)
    position_mm: float = Field(default=2.0, gt=0)
    layer_mu_percent: float = Field(default=3.0, gt=0)
    spot_size_percent: float = Field(default=15.0, gt=0)


class CasesSettings(_Section):
    """The pipeline from a case folder to a verdict."""

    scan: dict[str, Path] = {}  # project → folder that is watched
    watch: bool = True  # workers watch; False: only `fairlead cases watch` does
    machine_file: Path | None = None  # default: the synthetic demo rooms
    engine: str = "reference"
    engine_options: dict[str, Any] = {}
    hosts: tuple[CaseHostSettings, ...] = ()  # default: this machine
    stability_s: float = Field(default=30.0, ge=0)  # a ready case must not have changed for so long
    rescan_s: float = Field(default=60.0, gt=0)
    fraction_wait_s: float = Field(default=3600.0, ge=0)  # for the missing deliveries of a fraction
    job_deadline_s: float = Field(default=6 * 3600.0, gt=0)
    place_wait_s: float = Field(default=7 * 86_400.0, gt=0)  # of a beam, for a place on its host
    attempts: int = Field(default=3, ge=1, le=10)  # of a step that failed for a passing reason
    retention_days: int = Field(default=30, ge=0)  # of work folders after the end of a case
    criteria: CaseCriteriaSettings = CaseCriteriaSettings()


class ZendeskInstallationSettings(_Section):
    """One installation of the app in one Zendesk."""

    id: str = Field(pattern=r"^[0-9]{1,20}$")  # Zendesk's number of the installation
    project: str  # whose customers its agents may look into
    subdomain: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")  # acme of acme.zendesk.com
    public_key_file: Path  # the app's RS256 key, pinned; PEM
    shared_secret: SecretStr  # the app's setting of the same name
    app_origin: str | None = None  # https://NUMBER.apps.zdusercontent.com, where the app is not served by us
    api_url: str | None = None  # default: https://SUBDOMAIN.zendesk.com
    api_email: str | None = None  # with a token: tickets' organizations and users' roles are looked up
    api_token: SecretStr | None = None


class SupportAccessSettings(_Section):
    """How customers' accounts are reached: by keys from Parameter Store, else by our own role and a hub."""

    parameter_region: str = "ap-northeast-2"
    access_key_parameter: str | None = None  # SecureString in Parameter Store; both or none
    secret_key_parameter: str | None = None
    hub_role_arn: str | None = None  # the role between the server's own and the customers'
    hub_external_id: SecretStr | None = None
    role_name: str = "FairleadReadOnly"  # in customers' accounts
    session_s: int = Field(default=3600, ge=900, le=43_200)
    policy_arns: tuple[str, ...] = ("arn:aws:iam::aws:policy/SecurityAudit",)
    tag_sessions: bool = False  # needs sts:TagSession and sts:SetSourceIdentity in trust policies


class SupportModelSettings(_Section):
    """What answers questions."""

    provider: Literal["embedded", "bedrock", "openai"] = "embedded"
    name: str | None = None  # of the model, where it is not the embedded one
    base_url: str | None = None  # of an OpenAI-compatible endpoint
    api_key: SecretStr | None = None
    region: str | None = None  # of Bedrock


class SupportSettings(_Section):
    """The support assistant."""

    installations: tuple[ZendeskInstallationSettings, ...] = ()
    public_url: str | None = None  # https address of this server as agents' browsers see it
    access: SupportAccessSettings = SupportAccessSettings()
    model: SupportModelSettings = SupportModelSettings()
    redis_url: SecretStr | None = None  # several API processes
    session_s: int = Field(default=900, ge=60, le=3600)  # of an agent
    link_s: int = Field(default=600, ge=10, le=86_400)  # of an opened report
    ask_deadline_s: float = Field(default=120.0, gt=0)
    report_deadline_s: float = Field(default=1800.0, gt=0)
    screening_deadline_s: float = Field(default=3600.0, gt=0)
    engine: Literal["builtin", "prowler", "service-screener"] = "builtin"
    service_screener: Path | None = None  # a checkout of it
    retention_days: int = Field(default=400, ge=1)  # of reports and screenings


class Settings(BaseSettings):
    """Everything that can be configured."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    data_dir: Path = Field(default_factory=_data_dir)
    toolenv_dir: Path | None = None  # default: data_dir/toolenvs
    database_url: SecretStr | None = None  # default: SQLite in data_dir
    http: HttpSettings = HttpSettings()
    objects: ObjectSettings = ObjectSettings()
    aws: AwsSettings = AwsSettings()
    runs: RunSettings = RunSettings()
    cases: CasesSettings = CasesSettings()
    support: SupportSettings = SupportSettings()
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "text"] = "json"
    max_template_bytes: int = Field(default=16 * 1024 * 1024, gt=0)

    @property
    def database(self) -> str:
        """URL of the database, secret included."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.data_dir / 'fairlead.db'}"

    @property
    def objects_url(self) -> str:
        """URL of the object store."""
        return self.objects.url or (self.data_dir / "objects").absolute().as_uri()

    @property
    def toolenvs(self) -> Path:
        """Folder of the environments of external programs."""
        return self.toolenv_dir or self.data_dir / "toolenvs"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment first, then what was passed in (the file)."""
        return env_settings, init_settings


def _file_values() -> tuple[dict[str, Any], Path | None]:
    named = os.environ.get("FAIRLEAD_CONFIG")  # noqa: TID251
    path = Path(named) if named else Path("fairlead.toml")
    if not path.exists():
        if named:
            raise SettingsInvalid(
                f"The configuration file {path} does not exist.",
                remedy="Correct FAIRLEAD_CONFIG or unset it.",
                path=str(path),
            )
        return {}, None
    try:
        return tomllib.loads(path.read_text(encoding="utf-8")), path
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsInvalid(
            f"{path} is not valid TOML: {error}", remedy="Correct the line it names.", path=str(path)
        ) from error


def _unknown_variables() -> list[str]:
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    return sorted(
        name
        for name in os.environ  # noqa: TID251
        if name.startswith(PREFIX) and name not in CLIENT_VARIABLES and name.split("__")[0] not in known
    )


def load_settings(**overrides: Any) -> Settings:
    """The settings of this process. Raises SettingsInvalid, naming every key that is wrong."""
    values, path = _file_values()
    if unknown := _unknown_variables():
        raise SettingsInvalid(
            f"Unknown settings in the environment: {', '.join(unknown)}.",
            remedy="See docs/reference/settings.md for the names.",
            keys=unknown,
        )
    try:
        return Settings(**{**values, **overrides})
    except ValidationError as error:
        # The offending *value* is left out: it may be a secret.
        faults = [
            f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
            for item in error.errors(include_input=False)
        ]
        raise SettingsInvalid(
            "; ".join(faults),
            remedy="See docs/reference/settings.md for names and forms.",
            source=str(path) if path else "environment",
            faults=faults,
        ) from None


def child_environment(extra: dict[str, str]) -> dict[str, str]:
    """The environment for a process of ours that this one starts: our own, and `extra` settings."""
    return {**os.environ, **extra}  # noqa: TID251
