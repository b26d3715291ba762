"""Reading an AWS account: only reads, page by page, in threads of its own, with deadlines of the SDK's own.

The one door to boto3 in this capability. Every call passes a guard that lets through a closed list of reads,
none of which answers with a secret; a failed call becomes `ReadFailed` with a reason to act on.
"""

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from types import SimpleNamespace
from typing import Any, NoReturn, TypeVar

import boto3
import botocore.session
from botocore.config import Config
from botocore.credentials import DeferredRefreshableCredentials
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ProfileNotFound,
    ReadTimeoutError,
)
from botocore.loaders import create_loader
from pydantic import SecretStr

from fairlead.kernel.errors import FairleadError

DEFAULT_REGION = "us-east-1"
CONNECT_S, READ_S = 5, 20
ATTEMPTS = 8  # of a call, throttling included: half a minute of waiting in all
CALL_S = 180.0  # one call with all its attempts, and the wait for a thread
THREADS = 16  # calls in flight for one account
PAGE_SIZES = {"ec2": 500, "s3": 1000}  # these answer without bounds unless told otherwise

# Every call that may leave, all of them reads that answer with no secret, contents or code. A list of what is
# forbidden would grow holes: S3 Control's GetDataAccess, for one, answers with credentials.
READS = frozenset(
    {
        "cloudtrail:DescribeTrails",
        "cloudtrail:GetTrailStatus",
        "cloudtrail:LookupEvents",  # who did what; AWS leaves secrets out of what it records
        "cloudwatch:DescribeAlarms",
        "dynamodb:DescribeContinuousBackups",
        "dynamodb:DescribeTable",
        "dynamodb:ListTables",
        "ec2:DescribeAddresses",
        "ec2:DescribeFlowLogs",
        "ec2:DescribeImages",
        "ec2:DescribeInstances",
        "ec2:DescribeNetworkAcls",
        "ec2:DescribeRegions",
        "ec2:DescribeSecurityGroups",
        "ec2:DescribeSnapshotAttribute",
        "ec2:DescribeSnapshots",
        "ec2:DescribeSubnets",
        "ec2:DescribeVolumes",
        "ec2:DescribeVpcs",
        "ec2:GetEbsEncryptionByDefault",
        "ecr:DescribeRepositories",
        "ecr:GetRepositoryPolicy",
        "efs:DescribeBackupPolicy",
        "efs:DescribeFileSystemPolicy",
        "efs:DescribeFileSystems",
        "eks:DescribeCluster",
        "eks:ListClusters",
        "elasticache:DescribeReplicationGroups",
        "elbv2:DescribeListeners",
        "elbv2:DescribeLoadBalancerAttributes",
        "elbv2:DescribeLoadBalancers",
        "iam:GetAccessKeyLastUsed",
        "iam:GetAccountPasswordPolicy",
        "iam:GetAccountSummary",
        "iam:GetLoginProfile",
        "iam:GetPolicyVersion",
        "iam:ListAccessKeys",
        "iam:ListAttachedUserPolicies",
        "iam:ListEntitiesForPolicy",
        "iam:ListMFADevices",
        "iam:ListPolicies",
        "iam:ListRoles",
        "iam:ListServerCertificates",
        "iam:ListUserPolicies",
        "iam:ListUsers",
        "kms:DescribeKey",
        "kms:GetKeyPolicy",
        "kms:GetKeyRotationStatus",
        "kms:ListKeys",
        "lambda:GetPolicy",
        "lambda:ListFunctionUrlConfigs",
        "lambda:ListFunctions",
        "logs:DescribeLogGroups",
        "rds:DescribeDBClusters",
        "rds:DescribeDBInstances",
        "rds:DescribeDBSnapshotAttributes",
        "rds:DescribeDBSnapshots",
        "s3:GetBucketAcl",
        "s3:GetBucketEncryption",
        "s3:GetBucketLifecycleConfiguration",
        "s3:GetBucketLocation",
        "s3:GetBucketLogging",
        "s3:GetBucketPolicy",
        "s3:GetBucketVersioning",
        "s3:GetPublicAccessBlock",
        "s3:ListBuckets",
        "s3control:GetPublicAccessBlock",
        "secretsmanager:GetResourcePolicy",
        "secretsmanager:ListSecrets",
        "sns:GetTopicAttributes",
        "sns:ListSubscriptionsByTopic",
        "sns:ListTopics",
        "sqs:GetQueueAttributes",
        "sqs:ListQueues",
        "sts:GetCallerIdentity",
        "support:DescribeTrustedAdvisorCheckSummaries",
        "support:DescribeTrustedAdvisorChecks",
    }
)
_DENIED = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "AuthorizationError",
        "AuthorizationErrorException",
        "Client.UnauthorizedOperation",
        "UnauthorizedOperation",
        "UnauthorizedAccess",
        "AllAccessDisabled",
    }
)
_THROTTLED = frozenset(
    {
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestThrottled",
        "RequestLimitExceeded",
        "TooManyRequestsException",
        "SlowDown",
        "ProvisionedThroughputExceededException",
    }
)
_OFF = frozenset({"OptInRequired", "SubscriptionRequiredException", "InvalidClientTokenId", "AuthFailure"})
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired"})

_NEVER = "9999-01-01T00:00:00+00:00"

T = TypeVar("T")
R = TypeVar("R")


class ReadFailed(FairleadError):
    """Something in the account could not be read."""

    code, status, retryable = "support.aws_unreadable", 502, True


class ReadDenied(ReadFailed):
    """The account does not allow reading this."""

    code, status, retryable = "support.aws_denied", 403, False


class AccountUnreachable(FairleadError):
    """The account cannot be read with these credentials."""

    code, status, retryable = "support.account_unreachable", 502, False


class NotARead(FairleadError):
    """A call that is not a plain read was refused before it left."""

    code, status, retryable = "support.not_a_read", 500, False


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """Credentials as AWS gives them."""

    access_key_id: str
    secret_access_key: SecretStr
    session_token: SecretStr | None = None
    expires_at: datetime | None = None  # None: not that anybody knows


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How an account is reached: `renew`, else keys, else `profile`, else the SDK's own chain."""

    account: str | None = None  # twelve digits; refused where the credentials turn out to be another's
    renew: Callable[[], Keys] | None = None  # the keys that hold now; blocks, asked from any thread
    access_key_id: str | None = None
    secret_access_key: SecretStr | None = None
    session_token: SecretStr | None = None
    profile: str | None = None
    region: str | None = None  # for what is not regional; default: the profile's, else us-east-1
    endpoint_url: str | None = None  # a local AWS
    attempts: int = ATTEMPTS  # of one call


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands where a fact would, had it been read."""

    reason: str


def is_allowed(service: str, operation: str) -> bool:
    """Whether `operation` ("DescribeVolumes") is one of the reads that may leave."""
    return f"{service}:{operation}" in READS


def failure(service: str, operation: str, error: Exception) -> ReadFailed:
    """`error` of the SDK as ours. Codes only: its messages may hold what does not belong in a report."""
    call = f"{service}:{operation}"
    if isinstance(error, ClientError):
        code = str(error.response.get("Error", {}).get("Code", "unknown"))
        if code in _DENIED:
            return ReadDenied(
                f"{call} was denied ({code}).",
                remedy="Attach the policy SecurityAudit to the role, or allow this call.",
                call=call,
                aws_code=code,
            )
        said = {
            **dict.fromkeys(_THROTTLED, "was throttled until the attempts were used up"),
            **dict.fromkeys(_OFF, "is not open to these credentials in this region"),
            **dict.fromkeys(_EXPIRED, "failed: the credentials have expired"),
        }.get(code, "failed")
        return ReadFailed(f"{call} {said} ({code}).", call=call, aws_code=code)
    if isinstance(error, EndpointConnectionError | ConnectTimeoutError | ReadTimeoutError | TimeoutError):
        return ReadFailed(f"{call} got no answer in time ({type(error).__name__}).", call=call)
    return ReadFailed(f"{call} failed ({type(error).__name__}).", call=call)


class Account:
    """One account: its session, its threads and every call's way out."""

    def __init__(self, access: Access, session: Any, pool: ThreadPoolExecutor) -> None:
        """`session` is a boto3 session; `account` and `partition` are known after `identify`."""
        self.home = access.region or session.region_name or DEFAULT_REGION
        self.account = ""
        self.partition = "aws"
        self._expected = access.account
        self._endpoint_url, self._attempts = access.endpoint_url, access.attempts
        self._session = session
        self._pool = pool
        self._closed = False
        self._making = threading.Lock()  # making clients of one session is not thread safe

    async def identify(self) -> str:
        """The account's twelve digits, from STS. Raises AccountUnreachable."""
        async with self.region(self.home) as reads:
            try:
                caller = await reads.call("sts", "get_caller_identity")
            except ReadFailed as error:
                raise AccountUnreachable(
                    f"The account does not say who is calling: {error.message}",
                    remedy="Check the profile or role, its expiry, and the network to sts.",
                ) from error
        self.account = str(caller["Account"])
        self.partition = str(caller["Arn"]).split(":")[1]
        if self._expected not in (None, self.account):
            raise AccountUnreachable(
                f"The credentials for account {self._expected} are those of account {self.account}.",
                remedy="Check which role or profile belongs to the account.",
            )
        return self.account

    @asynccontextmanager
    async def region(self, region: str, *, seen_at: datetime | None = None) -> AsyncIterator["Reads"]:
        """Reads in `region`; their clients are closed with the block."""
        reads = Reads(self, region, seen_at)
        try:
            yield reads
        finally:
            reads.close()

    def client(self, service: str, region: str) -> Any:
        """A new guarded client; blocking."""
        config = Config(
            connect_timeout=CONNECT_S,
            read_timeout=READ_S,
            retries={"mode": "standard", "total_max_attempts": self._attempts},
            max_pool_connections=THREADS,
            user_agent_extra="fairlead-screening",
        )
        with self._making:
            made = self._session.client(
                service, region_name=region, endpoint_url=self._endpoint_url, config=config
            )
        made.meta.events.register("before-parameter-build.*.*", _guard)
        made.meta.events.register("before-send.*", self._unless_closed)
        if self._endpoint_url:
            made.meta.events.register("before-sign.s3-control.*", self._without_account_in_host)
        return made

    def close(self) -> None:
        """No further attempts: calls in flight end with the one that they are at; nobody waits for them."""
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _unless_closed(self, **_: Any) -> None:
        if self._closed:
            raise ReadFailed("The screening has ended.")

    def _without_account_in_host(self, request: Any, **_: Any) -> None:
        """A local AWS has one address for everything; S3 Control puts the account before it."""
        request.url = request.url.replace(f"//{self.account}.", "//", 1)

    async def blocking(self, do: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """`do` in one of this account's threads: a screening must not take those of the whole server."""
        async with asyncio.timeout(CALL_S):
            return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: do(*args, **kwargs))


def _guard(model: Any, **_: Any) -> None:
    service = model.service_model.service_name
    if not is_allowed(service, model.name):
        raise NotARead(
            f"{service}:{model.name} is not one of the reads that may leave.", call=f"{service}:{model.name}"
        )


@asynccontextmanager
async def open_account(access: Access) -> AsyncIterator[Account]:
    """The account behind `access`, identified. Raises AccountUnreachable."""
    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="screening")
    try:
        account = Account(
            access, await asyncio.get_running_loop().run_in_executor(pool, session_of, access), pool
        )
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    try:
        await account.identify()
        yield account
    finally:
        account.close()


@cache
def _models() -> Any:
    """Descriptions of the services, read from disk once for all accounts: half a second each time."""
    return create_loader()


def session_of(access: Access) -> Any:
    """A boto3 session; blocking. Its calls are not guarded. Raises AccountUnreachable."""

    def opened(secret: SecretStr | None) -> str | None:
        return secret.get_secret_value() if secret else None

    try:
        core = botocore.session.Session(profile=access.profile)
        core.register_component("data_loader", _models())
        core.get_scoped_config()  # a profile that is not there is told here, not at the first call
        if access.renew:
            renewing = DeferredRefreshableCredentials(_renewing(access.renew), method="fairlead")
            core.register_component("credential_provider", SimpleNamespace(load_credentials=lambda: renewing))
        return boto3.Session(
            aws_access_key_id=access.access_key_id,
            aws_secret_access_key=opened(access.secret_access_key),
            aws_session_token=opened(access.session_token),
            botocore_session=core,
        )
    except ProfileNotFound as error:
        raise AccountUnreachable(
            f"There is no profile {access.profile!r} in the AWS configuration.",
            remedy="List them with: aws configure list-profiles",
        ) from error
    except BotoCoreError as error:
        raise AccountUnreachable(f"The AWS configuration cannot be used ({type(error).__name__}).") from error


def keys_of(session: Any) -> Keys:
    """The credentials that `session` has now, renewed where they would expire; blocking.

    Raises AccountUnreachable.
    """
    try:
        found = session.get_credentials()
        frozen = found.get_frozen_credentials() if found else None
    except BotoCoreError as error:
        raise AccountUnreachable(f"The AWS credentials cannot be used ({type(error).__name__}).") from error
    if frozen is None:
        raise _no_credentials()
    return Keys(
        access_key_id=frozen.access_key,
        secret_access_key=SecretStr(frozen.secret_key),
        session_token=SecretStr(frozen.token) if frozen.token else None,
    )


def _no_credentials() -> AccountUnreachable:
    return AccountUnreachable(
        "There are no AWS credentials.", remedy="Give --profile, or set up the SDK's credential chain."
    )


def _renewing(renew: Callable[[], Keys]) -> Callable[[], dict[str, str | None]]:
    """`renew` as botocore asks for credentials, again and again while a long screening goes on."""

    def renewed() -> dict[str, str | None]:
        try:
            keys = renew()
        except FairleadError as error:  # what was read until now is not lost with it
            raise ReadFailed(f"The credentials could not be renewed. {error.message}") from error
        return {
            "access_key": keys.access_key_id,
            "secret_key": keys.secret_access_key.get_secret_value(),
            "token": keys.session_token.get_secret_value() if keys.session_token else None,
            "expiry_time": keys.expires_at.isoformat() if keys.expires_at else _NEVER,
        }

    return renewed


class Reads:
    """Reads of one account in one region."""

    def __init__(self, owner: Account, region: str, seen_at: datetime | None) -> None:
        """`region` is where calls go, "us-east-1" and not "global"."""
        self.account, self.partition, self.region = owner.account, owner.partition, region
        self.seen_at = seen_at
        self.calls: Counter[str] = Counter()  # how often each operation answered, pages one by one
        self._owner = owner
        self._clients: dict[tuple[str, str], Any] = {}
        self._making = asyncio.Lock()

    def arn(self, service: str, rest: str, *, region: str | None = None) -> str:
        """`rest` of `service` as an ARN of this account; `region` "" where it has none."""
        place = self.region if region is None else region
        return f"arn:{self.partition}:{service}:{place}:{self.account}:{rest}"

    async def call(
        self, service: str, operation: str, /, *, at: str | None = None, **params: Any
    ) -> dict[str, Any]:
        """One answer of `operation` ("describe_volumes"), in region `at`. Raises ReadFailed, ReadDenied."""
        client = await self._client(service, at or self.region)
        with _translated(client, operation):
            answer: dict[str, Any] = await self._owner.blocking(getattr(client, operation), **params)
        self.calls[_named(client, operation)] += 1
        return answer

    async def pages(self, service: str, operation: str, key: str, /, **params: Any) -> AsyncIterator[Any]:
        """What stands under `key` ("Volumes") on every page, one after another; one page in memory."""
        client = await self._client(service, self.region)
        if not client.can_paginate(operation):
            for item in (await self.call(service, operation, **params)).get(key) or ():
                yield item
            return
        size = {"PageSize": PAGE_SIZES[service]} if service in PAGE_SIZES else {}
        pages = iter(client.get_paginator(operation).paginate(**params, PaginationConfig=size))
        while True:
            with _translated(client, operation):
                page = await self._owner.blocking(next, pages, None)
            if page is None:
                return
            self.calls[_named(client, operation)] += 1
            for item in page.get(key) or ():
                yield item

    async def fact(
        self,
        service: str,
        operation: str,
        pick: Callable[[dict[str, Any]], T],
        /,
        *,
        absent: Collection[str] = (),
        at: str | None = None,
        **params: Any,
    ) -> T | Unreadable | None:
        """`pick` of one answer; None for the error codes in `absent`; Unreadable for every other failure."""
        try:
            return pick(await self.call(service, operation, at=at, **params))
        except ReadFailed as error:
            cause = error.__cause__
            if isinstance(cause, ClientError) and cause.response.get("Error", {}).get("Code") in absent:
                return None
            return Unreadable(error.message)

    async def all_of(
        self, service: str, operation: str, key: str, /, **params: Any
    ) -> list[Any] | Unreadable:
        """Every item of every page as a fact about something else; for what is short by nature."""
        try:
            return [item async for item in self.pages(service, operation, key, **params)]
        except ReadFailed as error:
            return Unreadable(error.message)

    async def _client(self, service: str, region: str) -> Any:
        async with self._making:  # many ask for the same one at once
            if (service, region) not in self._clients:
                try:
                    made = await self._owner.blocking(self._owner.client, service, region)
                except (BotoCoreError, ValueError) as error:
                    raise ReadFailed(
                        f"{service} in {region} cannot be called ({type(error).__name__})."
                    ) from error
                self._clients[service, region] = made
            return self._clients[service, region]

    def close(self) -> None:
        """Close the clients."""
        for client in self._clients.values():
            with suppress(Exception):
                client.close()
        self._clients.clear()


@contextmanager
def _translated(client: Any, operation: str) -> Iterator[None]:
    try:
        yield
    except (ClientError, BotoCoreError, TimeoutError) as error:
        _fail(client, operation, error)


def _fail(client: Any, operation: str, error: Exception) -> NoReturn:
    if isinstance(error, NoCredentialsError):
        raise _no_credentials() from error
    service, _, name = _named(client, operation).partition(":")
    raise failure(service, name, error) from error


def _named(client: Any, operation: str) -> str:
    """The operation "describe_volumes" as it is listed: "ec2:DescribeVolumes"."""
    return f"{client.meta.service_model.service_name}:{client.meta.method_to_api_mapping[operation]}"


async def details(
    items: AsyncIterator[T], look: Callable[[T], Awaitable[R]], *, width: int = 8
) -> AsyncIterator[R]:
    """`look` at each of `items`, `width` at a time, in their order; no more than `width` are in memory."""
    window: list[asyncio.Future[R]] = []
    try:
        async for item in items:
            window.append(asyncio.ensure_future(look(item)))
            if len(window) >= width:
                yield await window.pop(0)
        while window:
            yield await window.pop(0)
    finally:
        for task in window:
            task.cancel()
        await asyncio.gather(*window, return_exceptions=True)


def tags_of(pairs: Collection[Mapping[str, Any]] | None) -> dict[str, str]:
    """[{"Key": …, "Value": …}] as a mapping."""
    return {str(pair.get("Key", "")): str(pair.get("Value", "")) for pair in pairs or ()}
