"""Credentials in a customer's account, as AWS grants them: asked for in one fixed order, checked, or refused.

Keys from Parameter Store assume the customer's role; where there are none or they cannot be read, the
server's own identity does, through the hub role where there is one. Nothing else is ever tried instead.
"""

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import SecretStr

from fairlead.kernel import telemetry
from fairlead.kernel.errors import SettingsInvalid
from fairlead.kernel.settings import Settings, SupportAccessSettings
from fairlead.support import refusals
from fairlead.support.collect import Access, AccountUnreachable, Keys, keys_of, session_of
from fairlead.support.grants import (
    AccessPath,
    Opened,
    Request,
    session_name,
    session_policy,
    session_tags,
    still_good,
)
from fairlead.support.refusals import (
    AccessRefused,
    ExternalIdMissing,
    OwnCredentialsMissing,
    SessionInvalid,
    StoredKeysUnreadable,
    WrongAccount,
)

CHAINED_S = 3600  # the longest that AWS lets a role live that another role assumed
OWN_S = 600.0  # how long the server's own credentials are good for until it is asked again who they are
_CONFIG = Config(
    connect_timeout=3,
    read_timeout=10,
    retries={"mode": "standard", "total_max_attempts": 3},
    user_agent_extra="fairlead-access",
)
_KEY_ID = re.compile(r"[A-Za-z0-9_]{12,128}")
_ACCOUNT = re.compile(r"[0-9]{12}")
_ROLE_NAME = re.compile(r"[A-Za-z0-9_+=,.@/-]{1,512}")


@dataclass(frozen=True, slots=True)
class _Caller:
    account: str
    arn: str

    @property
    def partition(self) -> str:
        return self.arn.split(":")[1]


@dataclass(frozen=True, slots=True)
class _Source:
    keys: Keys | None  # None: the server's own
    path: AccessPath
    name: str  # as a refusal calls it
    hub: str | None = None


class Door:
    """Asks AWS for credentials. Blocking, safe to share between threads."""

    def __init__(self, settings: Settings, now: Callable[[], datetime]) -> None:
        """Opens nothing yet. Raises SettingsInvalid."""
        self._given: SupportAccessSettings = settings.support.access
        if (self._given.access_key_parameter is None) != (self._given.secret_key_parameter is None):
            raise SettingsInvalid(
                "support.access: the access key's and the secret key's parameter are given together or not."
            )
        aws = settings.aws
        self._own = Access(
            access_key_id=aws.access_key_id,
            secret_access_key=aws.secret_access_key,
            session_token=aws.session_token,
            profile=aws.profile,
            region=aws.region,
            endpoint_url=aws.endpoint_url,
        )
        self._now = now
        self._making = threading.Lock()  # neither sessions nor clients are made safely by two threads at once
        self._session: Any = None
        self._hub_held = threading.Lock()
        self._hub: Keys | None = None

    def open(self, request: Request) -> Opened:
        """Checked credentials. Raises AccessRefused."""
        if request.external_id is None:
            return self._open_own(request.account)
        if not _ACCOUNT.fullmatch(request.account) or not _ROLE_NAME.fullmatch(request.role_name):
            raise SessionInvalid(
                "The account or the role of the customer has not the form of one.",
                remedy="Correct the customer: twelve digits, and a role's name (with its path, if any).",
            )
        own = self._who(None, refusals.of_own)
        role = f"arn:{own.partition}:iam::{request.account}:role/{request.role_name}"
        source = self._source(own)
        parameters = self._parameters(role, request, request.external_id, path=source.path)
        try:
            keys = self._assume(source.keys, parameters)
        except (ClientError, BotoCoreError) as error:
            if source.hub:
                self._forget_hub()  # it may be what is not accepted
            raise refusals.of_role(
                error, role, request.account, source.name, stored=source.path is AccessPath.STORED_KEYS
            ) from None
        if (found := self._who(keys, refusals.of_new).account) != request.account:
            # Who asked about one customer is not told the number of another; the operator's log has it.
            telemetry.log.error("support.wrong_account", account=request.account, found=found)
            raise WrongAccount(
                f"The role for account {request.account} gave credentials of another account.",
                remedy="Correct the account or the role of the customer.",
                account=request.account,
            )
        name = parameters["RoleSessionName"]
        return Opened(keys=keys, path=source.path, session=name, role=role, hub=source.hub)

    def _open_own(self, account: str) -> Opened:
        """The server's own credentials, for its own account only."""
        keys = self._own_keys()
        if self._who(keys, refusals.of_own).account != account:
            raise ExternalIdMissing(
                f"There is no ExternalId for account {account}.",
                remedy="Give the customer one, and demand it in the trust policy of the role.",
                account=account,
            )
        return Opened(keys=keys, path=AccessPath.OWN, session=None)

    # Whose credentials assume the customer's role -----------------------------------------------------

    def _source(self, own: _Caller) -> _Source:
        """Keys from Parameter Store; where there are none or they are unreadable, the hub's or our own."""
        given, hub = self._given, self._given.hub_role_arn
        if given.access_key_parameter is not None and given.secret_key_parameter is not None:
            try:
                keys = self._stored_keys(given.access_key_parameter, given.secret_key_parameter)
                return _Source(keys, AccessPath.STORED_KEYS, "the user of the keys in Parameter Store")
            except StoredKeysUnreadable as error:
                if hub is None:
                    raise
                telemetry.log.warning("support.stored_keys_unreadable", reason=error.message)
        if hub is None:
            return _Source(None, AccessPath.ROLE_CHAIN, own.arn)
        return _Source(self._hub_keys(hub, own), AccessPath.ROLE_CHAIN, hub, hub)

    def _stored_keys(self, access_key: str, secret_key: str) -> Keys:
        try:
            with self._client("ssm", None, self._given.parameter_region) as ssm:
                answer = ssm.get_parameters(Names=[access_key, secret_key], WithDecryption=True)
        except (ClientError, BotoCoreError) as error:
            raise refusals.of_parameters(f"They could not be read ({refusals.code_of(error)}).") from None
        found = {item["Name"]: item for item in answer["Parameters"]}
        if missing := [name for name in (access_key, secret_key) if name not in found]:
            raise refusals.of_parameters(f"There is no {' and no '.join(missing)}.")
        if found[secret_key]["Type"] != "SecureString":
            raise refusals.of_parameters(f"{secret_key} is not a SecureString.")
        key_id, secret = (str(found[name]["Value"]).strip() for name in (access_key, secret_key))
        if not _KEY_ID.fullmatch(key_id) or not secret:
            raise refusals.of_parameters("What they hold has not the form of an access key.")
        return Keys(access_key_id=key_id, secret_access_key=SecretStr(secret))

    def _hub_keys(self, role: str, own: _Caller) -> Keys:
        """Of the hub role, kept while they hold. Raises HubRefused."""
        life_s = min(self._given.session_s, CHAINED_S)
        external_id = self._given.hub_external_id
        parameters = {
            "RoleArn": role,
            "RoleSessionName": "fairlead",
            "DurationSeconds": life_s,
            **({"ExternalId": external_id.get_secret_value()} if external_id else {}),
        }
        with self._hub_held:  # many customers are opened at once; the hub is assumed once
            if self._hub is None or not still_good(self._hub, self._now(), life_s):
                try:
                    self._hub = self._assume(None, parameters)
                except (ClientError, BotoCoreError) as error:
                    raise refusals.of_hub(error, role, own.arn) from None
            return self._hub

    def _forget_hub(self) -> None:
        with self._hub_held:
            self._hub = None

    def _own_keys(self) -> Keys:
        try:
            keys = keys_of(self._boto())
        except AccountUnreachable as error:
            raise OwnCredentialsMissing(error.message, remedy=error.remedy) from None
        return replace(keys, expires_at=self._now() + timedelta(seconds=OWN_S))

    # STS ------------------------------------------------------------------------------------------------

    def _parameters(
        self, role: str, request: Request, external_id: SecretStr, *, path: AccessPath
    ) -> dict[str, Any]:
        given = self._given
        longest = given.session_s if path is AccessPath.STORED_KEYS else min(given.session_s, CHAINED_S)
        return {
            "RoleArn": role,
            "RoleSessionName": session_name(request.agent, request.ticket),
            "ExternalId": external_id.get_secret_value(),
            "DurationSeconds": longest,
            "Policy": session_policy(given.policy_arns),
            **({"PolicyArns": [{"arn": arn} for arn in given.policy_arns]} if given.policy_arns else {}),
            **(session_tags(request.agent, request.ticket) if given.tag_sessions else {}),
        }

    def _assume(self, via: Keys | None, parameters: Mapping[str, Any]) -> Keys:
        with self._client("sts", via) as sts:
            given = sts.assume_role(**parameters)["Credentials"]
        return Keys(
            access_key_id=given["AccessKeyId"],
            secret_access_key=SecretStr(given["SecretAccessKey"]),
            session_token=SecretStr(given["SessionToken"]),
            expires_at=given["Expiration"],
        )

    def _who(self, keys: Keys | None, refusal: Callable[[Exception], AccessRefused]) -> _Caller:
        """Whose `keys` are; None: the server's own."""
        try:
            with self._client("sts", keys) as sts:
                answer = sts.get_caller_identity()
        except (ClientError, BotoCoreError) as error:
            raise refusal(error) from None
        return _Caller(str(answer["Account"]), str(answer["Arn"]))

    def _boto(self) -> Any:
        with self._making:
            if self._session is None:
                try:
                    self._session = session_of(self._own)
                except AccountUnreachable as error:
                    raise OwnCredentialsMissing(error.message, remedy=error.remedy) from None
            return self._session

    @contextmanager
    def _client(self, service: str, keys: Keys | None, region: str | None = None) -> Iterator[Any]:
        """A client with `keys`, never with others in their place; None: the server's own."""
        session, token = self._boto(), keys.session_token if keys else None
        explicit = (
            {}
            if keys is None
            else {
                "aws_access_key_id": keys.access_key_id,
                "aws_secret_access_key": keys.secret_access_key.get_secret_value(),
                "aws_session_token": token.get_secret_value() if token else None,
            }
        )
        with self._making:
            made = session.client(
                service,
                region_name=region or self._own.region,
                endpoint_url=self._own.endpoint_url,
                config=_CONFIG,
                **explicit,
            )
        try:
            yield made
        finally:
            made.close()
