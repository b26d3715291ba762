"""Opening customers' accounts, against a sandbox that enforces trust, external ids and session policies."""

import asyncio
import json
import logging
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
import structlog
from botocore.exceptions import ClientError
from pydantic import SecretStr

from fairlead.kernel import audit
from fairlead.kernel.clock import utc_now
from fairlead.kernel.db import Database, open_database
from fairlead.kernel.errors import SettingsInvalid
from fairlead.kernel.settings import AwsSettings, Settings, SupportAccessSettings, SupportSettings
from fairlead.support import grants, refusals
from fairlead.support.access import AccountAccess, open_accesses
from fairlead.support.assume import CHAINED_S
from fairlead.support.collect import AccountUnreachable, Keys, open_account
from fairlead.support.model import Status
from fairlead.support.screenings.builtin.engine import BuiltinScreening
from fairlead.support.screenings.port import Scope, Workshop, gathered
from tests.sandbox_service import toolenvs
from tests.services import free_port
from tests.support.cross_accounts import (
    ACCESS_KEY,
    ACME,
    GLOBEX,
    HOME,
    HUB,
    REGION,
    ROLE,
    SECRET_KEY,
    World,
    customer,
    external_id,
    start_world,
)
from tests.support.small_sts import small_sts

AGENT = "zendesk:77:42"
PATHS = {
    "parameter-store": ({"stored": True}, "parameter_store"),
    "role-chain": ({}, "role_chain"),
    "without-hub": ({"hub": False}, "role_chain"),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with start_world(tmp_path_factory.mktemp("world")) as running:
        yield running


@pytest.fixture
def database(sqlite_template: Path, tmp_path: Path) -> Iterator[Database]:
    """A new one with all tables."""
    shutil.copy(sqlite_template, tmp_path / "access.db")
    opened = open_database(f"sqlite:///{tmp_path / 'access.db'}")
    yield opened
    opened.close()


class Clock:
    """Time as the test sets it."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return utc_now() + self.ahead

    def forward(self, **by: float) -> None:
        self.ahead += timedelta(**by)


def client(world: World, service: str, keys: Keys, region: str = "us-east-1") -> Any:
    """With credentials as they were granted, no guard of ours in between."""
    assert keys.session_token
    return boto3.client(
        service,
        endpoint_url=world.sandbox.endpoint_url,
        region_name=region,
        aws_access_key_id=keys.access_key_id,
        aws_secret_access_key=keys.secret_access_key.get_secret_value(),
        aws_session_token=keys.session_token.get_secret_value(),
    )


async def buckets(access: AccountAccess) -> list[str]:
    """Names, read through the guarded door."""
    async with open_account(access.collect) as account, account.region("us-east-1") as reads:
        return [bucket["Name"] async for bucket in reads.pages("s3", "list_buckets", "Buckets")]


# Opened ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("given", "path"), PATHS.values(), ids=PATHS)
async def test_an_account_is_opened_and_audited(
    world: World, tmp_path: Path, database: Database, given: dict[str, Any], path: str
) -> None:
    async with open_accesses(world.settings(tmp_path, **given), database=database) as accesses:
        access = await accesses.open(customer(), actor=AGENT, ticket="4711")
        identity = client(world, "sts", await access.keys()).get_caller_identity()
        assert await buckets(access) == [f"bucket-of-{ACME}"]
    assert (access.account, access.path, access.session) == (ACME, path, "zd-4711-77-42")
    assert identity["Account"] == ACME
    assert identity["Arn"].endswith(f":assumed-role/{ROLE}/zd-4711-77-42")
    with database.transaction() as connection:
        (entry,) = audit.entries(connection, action="support.account_opened")
    assert (entry.actor, entry.subject, entry.project_id) == (AGENT, f"account:{ACME}", "web")
    told = dict(entry.data)
    assert datetime.fromisoformat(told.pop("expires_at")) > utc_now()
    assert told == {
        "account": ACME,
        "ticket": "4711",
        "path": path,
        "session": "zd-4711-77-42",
        "role": f"arn:aws:iam::{ACME}:role/{ROLE}",
        "hub": HUB if given == {} else None,
    }


async def test_parameters_that_cannot_be_read_leave_the_hub(world: World, tmp_path: Path) -> None:
    settings = world.settings(tmp_path, access_key_parameter="/nowhere", secret_key_parameter=SECRET_KEY)
    with structlog.testing.capture_logs() as logs:
        async with open_accesses(settings) as accesses:
            access = await accesses.open(customer(), actor=AGENT, ticket="1")
    assert access.path == "role_chain"
    (warning,) = [entry for entry in logs if entry["event"] == "support.stored_keys_unreadable"]
    assert "/nowhere" in warning["reason"]


async def test_the_session_reads_the_account_and_no_secrets(world: World, tmp_path: Path) -> None:
    async with open_accesses(world.settings(tmp_path)) as accesses:
        access = await accesses.open(customer(), actor=AGENT, ticket="1")
        keys = await access.keys()
    s3, secrets = client(world, "s3", keys), client(world, "secretsmanager", keys, REGION)
    assert [b["Name"] for b in s3.list_buckets()["Buckets"]] == [f"bucket-of-{ACME}"]
    assert [s["Name"] for s in secrets.list_secrets()["SecretList"]] == ["password"]
    assert client(world, "cloudwatch", keys).list_metrics()["Metrics"] == []
    denied: dict[str, Callable[[], Any]] = {
        "an object": lambda: s3.get_object(Bucket=f"bucket-of-{ACME}", Key="report.txt"),
        "a secret": lambda: secrets.get_secret_value(SecretId="password"),
        "a parameter": lambda: client(world, "ssm", keys).get_parameter(Name="/x", WithDecryption=True),
        "a change": lambda: client(world, "ec2", keys).create_vpc(CidrBlock="10.0.0.0/16"),
        "another role": lambda: client(world, "sts", keys).assume_role(
            RoleArn=f"arn:aws:iam::{GLOBEX}:role/{ROLE}",
            RoleSessionName="on",
            ExternalId=external_id(GLOBEX),
        ),
    }
    for what, attempt in denied.items():
        with pytest.raises(ClientError) as refusal:
            attempt()
        code = refusal.value.response["Error"]["Code"]
        assert code in {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}, what


async def test_a_screening_through_it_is_denied_nothing(world: World, tmp_path: Path) -> None:
    async with open_accesses(world.settings(tmp_path)) as accesses:
        access = await accesses.open(customer(), actor=AGENT, ticket="1")
        screening = BuiltinScreening(access, Workshop(toolenvs=toolenvs()))
        plan = await screening.plan(Scope(account=ACME, regions=(REGION,)))
        found = await gathered(plan, screening.run(plan, deadline_s=300))
    assert (found.account, found.complete) == (ACME, True)
    assert len(found.services) >= 15
    why = [f.detail for f in found.findings if f.status is Status.UNREAD]
    why += [gap.reason for gap in found.unread]
    assert [reason for reason in why if "denied" in reason] == []


async def test_the_own_account_is_read_with_own_credentials(
    world: World, tmp_path: Path, database: Database
) -> None:
    own = customer(HOME, external_id=None)
    async with open_accesses(world.settings(tmp_path), database=database) as accesses:
        access = await accesses.open(own, actor=AGENT, ticket=None)
        async with open_account(access.collect) as account:
            assert account.account == HOME
        assert (await run(access, WHO)).strip() == HOME
    assert access.path == "own"
    with database.transaction() as connection:
        assert audit.entries(connection)[0].data["path"] == "own"


async def test_agent_and_ticket_stand_in_a_tagged_session(world: World, tmp_path: Path) -> None:
    settings = world.settings(tmp_path, tag_sessions=True)
    async with open_accesses(settings) as accesses:
        access = await accesses.open(customer(role_name="Tagged"), actor="zendesk:77:이서연", ticket="4711")
        assert await buckets(access) == [f"bucket-of-{ACME}"]
        with pytest.raises(refusals.RoleRefused) as refusal:
            await accesses.open(customer(), actor=AGENT, ticket="4711")
    assert "support.access.tag_sessions" in (refusal.value.remedy or "")


# Refused --------------------------------------------------------------------------------------------

REFUSALS: dict[str, tuple[dict[str, Any], dict[str, Any], type[refusals.AccessRefused], str]] = {
    "role-missing": ({}, {"role_name": "Nobody"}, refusals.RoleRefused, "role/Nobody"),
    "not-trusted": ({}, {"role_name": "Untrusting"}, refusals.RoleRefused, "does not trust"),
    "wrong-external-id": ({}, {"external_id": "guessed-0123456789"}, refusals.RoleRefused, "ExternalId"),
    "external-id-of-another": (
        {"stored": True},
        {"external_id": external_id(GLOBEX)},
        refusals.RoleRefused,
        "ExternalId",
    ),
    "no-external-id": ({}, {"external_id": None}, refusals.ExternalIdMissing, ACME),
    "account-missing": ({}, {"account": "123123123123"}, refusals.RoleRefused, "123123123123"),
    "malformed-account": ({}, {"account": "12345678901"}, refusals.SessionInvalid, "form"),
    "malformed-role": ({}, {"role_name": "a b"}, refusals.SessionInvalid, "form"),
    "hub-external-id": (
        {"hub_external_id": SecretStr("wrong-hub-id")},
        {},
        refusals.HubRefused,
        "SupportHub",
    ),
    "hub-missing": (
        {"hub_role_arn": f"arn:aws:iam::{HOME}:role/NoHub"},
        {},
        refusals.HubRefused,
        "role/NoHub",
    ),
    "parameter-missing": (
        {"hub": False, "access_key_parameter": "/no", "secret_key_parameter": SECRET_KEY},
        {},
        refusals.StoredKeysUnreadable,
        "There is no /no.",
    ),
    "parameter-in-plain": (
        {"hub": False, "access_key_parameter": ACCESS_KEY, "secret_key_parameter": "/support/plain"},
        {},
        refusals.StoredKeysUnreadable,
        "SecureString",
    ),
    "stored-keys-unknown": (
        {"access_key_parameter": "/support/bad-access-key", "secret_key_parameter": SECRET_KEY},
        {},
        refusals.StoredKeysInvalid,
        "Parameter Store",
    ),
    "stored-user-may-not": (
        {
            "access_key_parameter": "/support/weak-access-key",
            "secret_key_parameter": "/support/weak-secret-key",
        },
        {},
        refusals.RoleRefused,
        "Our side does not allow",
    ),
    "session-too-long": ({"stored": True, "session_s": 7200}, {}, refusals.SessionInvalid, ACME),
    "policy-missing": (
        {"policy_arns": ("arn:aws:iam::aws:policy/NoSuchPolicyAtAll",)},
        {},
        refusals.SessionInvalid,
        ACME,
    ),
}


@pytest.mark.parametrize(("given", "changes", "kind", "words"), REFUSALS.values(), ids=REFUSALS)
async def test_what_aws_refuses_is_refused_with_its_cause(
    world: World,
    tmp_path: Path,
    database: Database,
    caplog: pytest.LogCaptureFixture,
    given: dict[str, Any],
    changes: dict[str, Any],
    kind: type[refusals.AccessRefused],
    words: str,
) -> None:
    caplog.set_level(logging.INFO)
    with structlog.testing.capture_logs() as logs:
        async with open_accesses(world.settings(tmp_path, **given), database=database) as accesses:
            with pytest.raises(refusals.AccessRefused) as refusal:
                await accesses.open(replace(customer(), **changes), actor=AGENT, ticket="4711")
    assert type(refusal.value) is kind
    assert words in refusal.value.message
    assert refusal.value.remedy
    with database.transaction() as connection:
        entries = audit.entries(connection)
    assert [(e.action, e.data["reason"]) for e in entries] == [("support.account_refused", kind.code)]
    shown = "".join(
        [
            json.dumps(refusal.value.problem()),
            *traceback.format_exception(refusal.value),
            json.dumps(logs, default=str),
            caplog.text,
            json.dumps(dict(entries[0].data)),
        ]
    )
    for secret in (*world.secrets(), str(changes.get("external_id") or "-" * 99), "wrong-hub-id"):
        assert secret not in shown


async def test_a_chained_session_is_never_asked_for_more_than_an_hour(world: World, tmp_path: Path) -> None:
    async with open_accesses(world.settings(tmp_path, session_s=7200)) as accesses:
        access = await accesses.open(customer(), actor=AGENT, ticket="1")
        ends = (await access.keys()).expires_at
    assert ends
    assert abs((ends - utc_now()).total_seconds() - CHAINED_S) < 60


async def test_the_servers_own_credentials_that_do_not_work_are_told(world: World, tmp_path: Path) -> None:
    settings = world.settings(tmp_path)
    wrong = settings.aws.model_copy(update={"secret_access_key": SecretStr("rotated-away")})
    async with open_accesses(settings.model_copy(update={"aws": wrong})) as accesses:
        for who in (customer(), customer(HOME, external_id=None)):
            with pytest.raises(refusals.OwnCredentialsMissing, match="SignatureDoesNotMatch"):
                await accesses.open(who, actor=AGENT, ticket="1")


async def test_missing_own_credentials_are_told(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    settings = world.settings(tmp_path)
    for profile in (None, "nobody-has-this"):
        aws = AwsSettings(region=REGION, endpoint_url=settings.aws.endpoint_url, profile=profile)
        async with open_accesses(settings.model_copy(update={"aws": aws})) as accesses:
            for who in (customer(), customer(HOME, external_id=None)):
                with pytest.raises(refusals.OwnCredentialsMissing):
                    await accesses.open(who, actor=AGENT, ticket="1")


def small_settings(folder: Path, url: str, **access: Any) -> Settings:
    return Settings(
        data_dir=folder,
        aws=AwsSettings(
            region=REGION, endpoint_url=url, access_key_id="AKIAOWN", secret_access_key=SecretStr("own")
        ),
        support=SupportSettings(access=SupportAccessSettings(**access)),
    )


async def test_credentials_of_another_account_are_thrown_away(tmp_path: Path) -> None:
    with small_sts(account=GLOBEX) as sts:
        async with open_accesses(small_settings(tmp_path, sts.url)) as accesses:
            with pytest.raises(refusals.WrongAccount) as refused:
                await accesses.open(customer(ACME), actor=AGENT, ticket="1")
    assert GLOBEX not in str(refused.value.problem())


@pytest.mark.parametrize(
    ("code", "kind", "retryable"),
    [
        ("Throttling", refusals.AccessThrottled, True),
        ("RegionDisabledException", refusals.RegionOff, False),
        ("PackedPolicyTooLarge", refusals.SessionInvalid, False),
        ("ValidationError", refusals.SessionInvalid, False),
        ("ExpiredToken", refusals.OwnCredentialsMissing, False),
    ],
)
async def test_a_rare_refusal_has_its_own_error_and_none_of_awss_words(
    tmp_path: Path, code: str, kind: type[refusals.AccessRefused], retryable: bool
) -> None:
    with small_sts(ACME, refusal=code) as sts:
        async with open_accesses(small_settings(tmp_path, sts.url)) as accesses:
            with pytest.raises(kind) as refusal:
                await accesses.open(customer(), actor=AGENT, ticket="1")
    assert type(refusal.value) is kind
    assert refusal.value.retryable is retryable
    assert external_id(ACME) not in "".join(traceback.format_exception(refusal.value))


async def test_an_aws_that_does_not_answer_is_told(tmp_path: Path) -> None:
    async with open_accesses(small_settings(tmp_path, f"http://127.0.0.1:{free_port()}")) as accesses:
        with pytest.raises(refusals.AccessUnavailable, match="EndpointConnectionError") as refusal:
            await accesses.open(customer(), actor=AGENT, ticket="1")
    assert refusal.value.retryable


async def test_half_of_the_parameters_is_a_mistake_in_the_settings(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="together"):
        async with open_accesses(small_settings(tmp_path, "http://127.0.0.1:1", access_key_parameter="/a")):
            pass


# Kept -----------------------------------------------------------------------------------------------


async def test_many_who_ask_at_once_cost_one_assumed_role(tmp_path: Path) -> None:
    with small_sts(ACME) as sts:
        async with open_accesses(small_settings(tmp_path, sts.url)) as accesses:
            sts.may_answer.clear()
            asking = [
                asyncio.create_task(accesses.open(customer(), actor=AGENT, ticket="1")) for _ in range(50)
            ]
            await asyncio.sleep(0)  # all of them have begun
            asking[0].cancel()  # one that gives up takes nothing from the others
            sts.may_answer.set()
            opened = await asyncio.gather(*asking[1:])
            assert len({id(access) for access in opened}) == 1
            assert sts.asked == {"GetCallerIdentity": 2, "AssumeRole": 1}
            other = await accesses.open(customer(), actor="zendesk:77:43", ticket="1")
            assert other is not opened[0]  # the customer's CloudTrail shows who it was
            assert sts.asked["AssumeRole"] == 2


async def test_credentials_are_renewed_shortly_before_they_expire(tmp_path: Path, database: Database) -> None:
    clock = Clock()
    with small_sts(ACME) as sts:
        sts.now = clock
        settings = small_settings(tmp_path, sts.url)
        async with open_accesses(settings, database=database, now=clock) as accesses:
            access = await accesses.open(customer(), actor=AGENT, ticket="1")
            first = await access.keys()
            clock.forward(minutes=44)
            assert await access.keys() == first
            clock.forward(minutes=2)
            second = await access.keys()
            assert second.access_key_id != first.access_key_id
            assert await accesses.open(customer(), actor=AGENT, ticket="1") is access
    assert sts.asked["AssumeRole"] == 2
    with database.transaction() as connection:
        assert len(audit.entries(connection, action="support.account_opened")) == 2


async def test_a_passing_failure_leaves_what_still_holds_and_a_refusal_does_not(tmp_path: Path) -> None:
    clock = Clock()
    with small_sts(ACME) as sts:
        async with open_accesses(small_settings(tmp_path, sts.url), now=clock) as accesses:
            access = await accesses.open(customer(), actor=AGENT, ticket="1")
            first = await access.keys()
            clock.forward(minutes=50)
            sts.refusal = "ServiceUnavailable"
            assert await access.keys() == first
            sts.refusal = "AccessDenied"
            with pytest.raises(refusals.RoleRefused):
                await access.keys()
            sts.refusal = "ServiceUnavailable"
            clock.forward(minutes=9, seconds=30)  # too little is left
            with pytest.raises(refusals.AccessUnavailable):
                await access.keys()


async def test_a_customer_with_another_external_id_is_opened_anew(world: World, tmp_path: Path) -> None:
    async with open_accesses(world.settings(tmp_path)) as accesses:
        access = await accesses.open(customer(), actor=AGENT, ticket="1")
        with pytest.raises(refusals.RoleRefused):
            await accesses.open(customer(external_id="changed-0123456789"), actor=AGENT, ticket="1")
        assert access.is_closed
        with pytest.raises(refusals.AccessUnavailable):
            await access.keys()


async def test_an_account_that_nobody_uses_is_closed(tmp_path: Path) -> None:
    clock = Clock()
    with small_sts(ACME) as sts:
        async with open_accesses(small_settings(tmp_path, sts.url), now=clock) as accesses:
            idle = await accesses.open(customer(), actor=AGENT, ticket="1")
            home = Path(idle.environment()["HOME"])
            clock.forward(hours=1)
            used = await accesses.open(customer(), actor=AGENT, ticket="2")
            clock.forward(hours=1, minutes=1)
            await accesses.open(customer(), actor=AGENT, ticket="3")
            assert idle.is_closed
            assert not used.is_closed
            assert not home.exists()  # noqa: ASYNC240


async def test_a_long_reading_survives_the_end_of_its_credentials(world: World, tmp_path: Path) -> None:
    clock = Clock()
    async with open_accesses(world.settings(tmp_path, session_s=900), now=clock) as accesses:
        access = await accesses.open(customer(), actor=AGENT, ticket="1")
        async with open_account(access.collect) as account, account.region("us-east-1") as reads:
            await reads.call("s3", "list_buckets")
            first = await access.keys()
            clock.forward(minutes=14)
            assert (await reads.call("s3", "list_buckets"))["Buckets"]
            second = await access.keys()
            assert second.access_key_id != first.access_key_id
        renew = access.collect.renew
        assert renew
        with pytest.raises(RuntimeError, match="event loop"):
            renew()


async def test_a_reader_refuses_an_account_that_is_not_the_one(world: World, tmp_path: Path) -> None:
    async with open_accesses(world.settings(tmp_path)) as accesses:
        access = await accesses.open(customer(), actor=AGENT, ticket="1")
        with pytest.raises(AccountUnreachable, match=GLOBEX):
            async with open_account(replace(access.collect, account=GLOBEX)):
                pass


STAYS = """
import asyncio, sys
from fairlead.kernel.settings import Settings
from fairlead.support.access import open_accesses
async def main():
    async with open_accesses(Settings(data_dir=sys.argv[1])):
        print("open", flush=True)
        await asyncio.to_thread(sys.stdin.read)
asyncio.run(main())
"""


async def test_what_a_killed_process_left_is_removed_by_the_next_and_what_is_in_use_is_not(
    tmp_path: Path,
) -> None:
    def folders() -> set[str]:
        return {path.name for path in (tmp_path / "support-access").iterdir()}

    settings, pipe = Settings(data_dir=tmp_path), asyncio.subprocess.PIPE
    async with open_accesses(settings):
        kept = folders()
        doomed = await asyncio.create_subprocess_exec(
            sys.executable, "-c", STAYS, str(tmp_path), stdin=pipe, stdout=pipe
        )
        assert doomed.stdout
        assert await doomed.stdout.readline() == b"open\n"
        (left,) = folders() - kept
        doomed.kill()
        await doomed.wait()
        async with open_accesses(settings):
            assert kept < folders()
            assert left not in folders()
    assert folders() == set()


# Child programs -------------------------------------------------------------------------------------

WHO = "import boto3; print(boto3.client('sts').get_caller_identity()['Account'])"
NAMES = "import boto3; print([b['Name'] for b in boto3.client('s3').list_buckets()['Buckets']])"
LONG = """
import datetime, sys, boto3, botocore.credentials
s3 = boto3.client("s3")
for line in sys.stdin:
    ahead = datetime.timedelta(minutes=int(line))
    s3._request_signer._credentials._time_fetcher = lambda: datetime.datetime.now(datetime.UTC) + ahead
    try:
        s3.list_buckets()
        print(s3._request_signer._credentials._access_key, flush=True)
    except Exception as error:
        print(type(error).__name__, flush=True)
"""


async def run(access: AccountAccess, script: str) -> str:
    """What `script` prints as a child program with this access."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-c",
        script,
        env=access.environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(child.communicate(), 180)
    return output.decode()


async def test_children_of_two_customers_see_their_own_account_only(world: World, tmp_path: Path) -> None:
    async with open_accesses(world.settings(tmp_path)) as accesses:
        acme, globex = await asyncio.gather(
            accesses.open(customer(ACME), actor=AGENT, ticket="1"),
            accesses.open(customer(GLOBEX), actor=AGENT, ticket="1"),
        )
        printed = await asyncio.gather(run(acme, NAMES), run(globex, NAMES))
        assert list(printed) == [f"['bucket-of-{ACME}']\n", f"['bucket-of-{GLOBEX}']\n"]
        environments = [acme.environment(), globex.environment()]
        for one in environments:
            held = [await acme.keys(), await globex.keys()]
            for secret in (*world.secrets(), *(keys.secret_access_key.get_secret_value() for keys in held)):
                assert secret not in json.dumps(one)
            assert not any(name in one for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"))
        mixed = {
            **environments[0],
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": environments[1]["AWS_CONTAINER_AUTHORIZATION_TOKEN"],
        }
        assert (await ask(mixed))[0] == 403


async def test_a_long_child_gets_new_credentials_and_none_once_it_is_closed(
    world: World, tmp_path: Path
) -> None:
    clock = Clock()
    async with open_accesses(world.settings(tmp_path, session_s=900), now=clock) as accesses:
        access = await accesses.open(customer(), actor=AGENT, ticket="1")
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-c", LONG, env=access.environment(), stdin=pipe, stdout=pipe
        )

        async def at(minutes: int) -> str:
            assert child.stdin
            assert child.stdout
            child.stdin.write(f"{minutes}\n".encode())
            return (await asyncio.wait_for(child.stdout.readline(), 90)).decode().strip()

        try:
            first = await at(0)
            assert first == (await access.keys()).access_key_id
            clock.forward(minutes=14)
            assert await at(7) != first  # it must ask again, and gets the new ones
            access.close()
            assert await at(14) == "CredentialRetrievalError"
        finally:
            child.kill()
            await child.wait()


async def ask(environment: dict[str, str], *, method: str = "GET", path: str = "") -> tuple[int, str]:
    """Status and body of the credentials endpoint."""
    parts = urlsplit(environment["AWS_CONTAINER_CREDENTIALS_FULL_URI"])
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    token = environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN")
    shown = f"Authorization: {token}\r\n" if token is not None else ""
    writer.write(f"{method} {path or parts.path} HTTP/1.1\r\nHost: x\r\n{shown}\r\n".encode())
    answer = (await asyncio.wait_for(reader.read(), 60)).decode()
    writer.close()
    head, _, body = answer.partition("\r\n\r\n")
    return (int(head.split()[1]) if head else 0), body


async def test_the_endpoint_answers_to_its_token_only(tmp_path: Path) -> None:
    with small_sts(ACME) as sts, structlog.testing.capture_logs() as logs:
        async with open_accesses(small_settings(tmp_path, sts.url)) as accesses:
            access = await accesses.open(customer(), actor=AGENT, ticket="1")
            right = access.environment()
            assert right == access.environment()
            status, body = await ask(right)
            document = json.loads(body)
            assert (status, document["AccessKeyId"]) == (200, "ASIAGRANTED000000001")
            # However long the keys live, a child comes back soon.
            assert datetime.fromisoformat(document["Expiration"]) < utc_now() + timedelta(minutes=17)
            token = "AWS_CONTAINER_AUTHORIZATION_TOKEN"
            refused = [
                await ask({**right, token: "wrong"}),
                await ask({**right, token: ""}),
                await ask({**right, token: right[token][:-1]}),
                await ask({name: value for name, value in right.items() if name != token}),
                await ask(right, path="/"),
                await ask({**right, token: ""}, path="/unknown"),
                await ask(right, method="POST"),
            ]
            assert {status for status, _ in refused} == {403}
            assert len({body for _, body in refused}) == 1
            assert "ASIA" not in refused[0][1]
            assert (await ask({**right, token: "x" * 20_000}))[0] == 0  # hung up on
            access.close()
            assert (await ask(right))[0] == 403
            with pytest.raises(refusals.AccessUnavailable):
                access.environment()
    written = json.dumps(logs, default=str)
    assert right["AWS_CONTAINER_AUTHORIZATION_TOKEN"] not in written
    assert "secret-1" not in written


async def test_a_child_is_told_why_there_are_no_credentials(tmp_path: Path) -> None:
    clock = Clock()
    with small_sts(ACME) as sts:
        async with open_accesses(small_settings(tmp_path, sts.url), now=clock) as accesses:
            access = await accesses.open(customer(), actor=AGENT, ticket="1")
            environment = access.environment()
            clock.forward(minutes=50)
            sts.refusal = "AccessDenied"
            status, body = await ask(environment)
            assert (status, json.loads(body)["code"]) == (503, "support.access_role_refused")
            assert external_id(ACME) not in body


def contents(environment: dict[str, str]) -> list[str]:
    """Of the home and the AWS configuration that a child gets."""
    home = Path(environment["HOME"])
    files = [Path(environment[name]) for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE")]
    return [*(str(path) for path in home.iterdir()), *(path.read_text() for path in files)]


async def test_the_end_ends_everything(tmp_path: Path) -> None:
    with small_sts(ACME) as sts:
        async with open_accesses(small_settings(tmp_path, sts.url)) as accesses:
            access = await accesses.open(customer(), actor=AGENT, ticket="1")
            environment = access.environment()
            assert contents(environment) == ["", ""]
        assert access.is_closed
        with pytest.raises(ConnectionRefusedError):
            await ask(environment)
        with pytest.raises(FileNotFoundError):
            contents(environment)


# Names and policies ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("agent", "ticket", "name"),
    [
        ("zendesk:77:42", "4711", "zd-4711-77-42"),
        ("zendesk:77:42", None, "zd-no-ticket-77-42"),
        ("ops@acme.example", "1", "zd-1-ops@acme.example"),
        ("a b", "1", "zd-1-a-b-fb803a75"),
    ],
)
def test_a_session_says_for_whom_it_is(agent: str, ticket: str | None, name: str) -> None:
    assert grants.session_name(agent, ticket) == name


def test_names_that_are_cut_stay_apart() -> None:
    names = {grants.session_name("zendesk:77:" + "9" * 80 + end, "4711") for end in "12"}
    assert len(names) == 2
    assert {len(name) for name in names} == {64}


@pytest.mark.parametrize("arns", [(), ("arn:aws:iam::aws:policy/SecurityAudit",)], ids=["none", "audit"])
def test_the_session_policy_fits_and_denies_secrets(arns: tuple[str, ...]) -> None:
    written = grants.session_policy(arns)
    assert len(written) <= 2048
    allow, deny = json.loads(written)["Statement"]
    assert ("*" in allow["Action"]) is (arns == ())
    assert deny["Effect"] == "Deny"
    assert {"s3:GetObject", "secretsmanager:GetSecretValue", "ssm:GetParameter*", "kms:Decrypt"} <= set(
        deny["Action"]
    )
