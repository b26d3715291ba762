"""An account of a local AWS as engines reach it, without anything to open or close."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr

from fairlead.support.collect import Access
from fairlead.support.screenings.port import Workshop
from tests.sandbox_service import toolenvs
from tests.support.screening_accounts import REGION

SECRET = "VALUE-sandbox-secret"
WORKSHOP = Workshop(toolenvs=toolenvs())


@dataclass(frozen=True)
class LocalAccount:
    """Access keys name the account: that is how the sandbox knows it."""

    collect: Access
    home: Path
    extra: Mapping[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """Explicit and whole."""
        access = self.collect
        assert access.secret_access_key
        return {
            "AWS_ACCESS_KEY_ID": access.access_key_id or "",
            "AWS_SECRET_ACCESS_KEY": access.secret_access_key.get_secret_value(),
            "AWS_ENDPOINT_URL": access.endpoint_url or "",
            "AWS_DEFAULT_REGION": access.region or REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_MAX_ATTEMPTS": str(access.attempts),
            "HOME": str(self.home),
            "PATH": "/usr/bin:/bin",
            **self.extra,
        }


def local_account(
    url: str, account: str, home: Path = Path("/"), *, attempts: int = 2, **extra: str
) -> LocalAccount:
    """`account` behind the local AWS at `url`."""
    return LocalAccount(
        Access(
            access_key_id=account,
            secret_access_key=SecretStr(SECRET),
            endpoint_url=url,
            region=REGION,
            attempts=attempts,
        ),
        home,
        extra,
    )
