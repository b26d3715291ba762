"""Which account a ticket is about: bindings decide, what somebody wrote does not, and nothing leaks."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from fairlead.kernel import audit
from fairlead.kernel.db import Database, open_database
from fairlead.kernel.errors import FairleadError
from fairlead.kernel.resilience import DeadlineExceeded
from fairlead.support import accounts
from fairlead.support.accounts import (
    AccountAmbiguous,
    AccountNotAllowed,
    AccountNotBound,
    AgentNotFound,
    AgentRoleMissing,
    BindingKind,
    BindingNotFound,
    CustomerNotFound,
    bind_organization,
    bind_ticket,
    put_customer,
    resolve,
)
from fairlead.support.model import Agent, AgentRole, Customer, Language
from fairlead.support.zendesk import Installation, Installations, ZendeskIdInvalid, read_installations
from fairlead.support.zendesk_api import (
    NO_ORGANIZATION,
    Directory,
    NotAnAgent,
    TicketUnknown,
    ZendeskRefused,
    ZendeskThrottled,
    ZendeskUnavailable,
)
from tests.services import fresh_database
from tests.support.zendesk_keys import INSTALLATION, PROJECT, USER, installation_settings
from tests.support.zendesk_server import ZendeskServer, running_zendesk

ROCHE, ROCHE_TEST, LOTTE, FOREIGN = "111111111111", "111111111112", "222222222222", "999999999999"
ORG_ROCHE, ORG_LOTTE = "7001", "7002"
AGENT = Agent(installation=INSTALLATION, user=USER, project_id=PROJECT, role=AgentRole.AGENT)


def customer(account: str, project: str = PROJECT, **values: Any) -> Customer:
    given = Customer(
        project_id=project, account=account, name=f"Customer {account}", role_name=None, external_id="x" * 40
    )
    return replace(given, **values)


@pytest.fixture
def bound(database: Database) -> Database:
    """Two customers of one project, one with two accounts, and another project's customer."""
    return bind(database)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def looked_at(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """The same, for tests that only look."""
    with fresh_database(request.param, tmp_path_factory.mktemp("bound"), request) as url:
        database = open_database(url)
        yield bind(database)
        database.close()


def bind(database: Database) -> Database:
    with database.transaction() as conn:
        for account in (ROCHE, ROCHE_TEST, LOTTE):
            put_customer(conn, customer(account), actor="olga")
        put_customer(conn, customer(FOREIGN, "globex"), actor="eve")
        bind_organization(conn, "globex", ORG_LOTTE, FOREIGN, actor="eve")
        for organization, account in ((ORG_ROCHE, ROCHE), (ORG_ROCHE, ROCHE_TEST), (ORG_LOTTE, LOTTE)):
            bind_organization(conn, PROJECT, organization, account, actor="olga")
        bind_ticket(conn, PROJECT, "35", ROCHE_TEST, organization=ORG_ROCHE, actor="lead")
    return database


def account_of(database: Database, ticket: str | None, organization: str | None) -> str:
    with database.reading() as conn:
        return resolve(conn, PROJECT, ticket=ticket, organization=organization).account


@pytest.mark.parametrize(
    ("ticket", "organization", "account"),
    [
        ("1", ORG_LOTTE, LOTTE),
        (None, ORG_LOTTE, LOTTE),
        ("35", ORG_ROCHE, ROCHE_TEST),
        ("35", None, ROCHE_TEST),
    ],
    ids=["an organization's only account", "without a ticket", "the ticket's own", "its own, nobody to ask"],
)
def test_bindings_choose_the_account(
    looked_at: Database, ticket: str | None, organization: str | None, account: str
) -> None:
    assert account_of(looked_at, ticket, organization) == account


@pytest.mark.parametrize(
    ("ticket", "organization", "error"),
    [
        ("1", None, AccountNotBound),
        ("1", "7999", AccountNotBound),
        ("1", NO_ORGANIZATION, AccountNotBound),
        ("1", ORG_ROCHE, AccountAmbiguous),
        ("35", ORG_LOTTE, AccountNotBound),
        ("35", NO_ORGANIZATION, AccountNotBound),
        (None, None, AccountNotBound),
        (ROCHE, None, AccountNotBound),
        (f"{LOTTE}0001", LOTTE, AccountNotBound),
        ("1", LOTTE, AccountNotBound),
        ("%", "%", AccountNotBound),
        ("' OR 1=1 --", None, AccountNotBound),
    ],
    ids=[
        "nobody to ask",
        "unknown organization",
        "a ticket without organization",
        "several accounts and none chosen",
        "the ticket went to another organization",
        "the ticket left its organization",
        "nothing at all",
        "an account's number as the ticket",
        "a number of sixteen digits",
        "an account's number as the organization",
        "a wildcard",
        "a piece of SQL",
    ],
)
def test_what_is_not_bound_has_no_account_and_no_refusal_names_one(
    looked_at: Database, ticket: str | None, organization: str | None, error: type[FairleadError]
) -> None:
    with pytest.raises(error) as caught:
        account_of(looked_at, ticket, organization)
    said = json.dumps(caught.value.problem())
    theirs = {ROCHE, ROCHE_TEST} if organization == ORG_ROCHE else set()
    assert {one for one in (ROCHE, ROCHE_TEST, LOTTE, FOREIGN) if one in said} == theirs


def test_projects_do_not_see_each_others_accounts(bound: Database) -> None:
    with bound.transaction() as conn:
        assert resolve(conn, "globex", ticket=None, organization=ORG_LOTTE).account == FOREIGN
        assert [one.account for one in accounts.list_customers(conn, PROJECT)] == [ROCHE, ROCHE_TEST, LOTTE]
        with pytest.raises(AccountNotBound):
            resolve(conn, "globex", ticket="35", organization=None)
        with pytest.raises(CustomerNotFound):
            accounts.customer(conn, PROJECT, FOREIGN)
        with pytest.raises(CustomerNotFound):
            bind_organization(conn, PROJECT, "1", FOREIGN, actor="olga")
        with pytest.raises(CustomerNotFound):
            bind_ticket(conn, PROJECT, "1", FOREIGN, organization=None, actor="olga")


def test_a_ticket_takes_only_an_account_of_its_organization(bound: Database) -> None:
    refusals = []
    for account in (LOTTE, FOREIGN, "333333333333"):
        with bound.transaction() as conn, pytest.raises(AccountNotAllowed) as caught:
            bind_ticket(conn, PROJECT, "36", account, organization=ORG_ROCHE, actor="lead")
        refusals.append(caught.value.problem())
    # Of the project, of another project, of nobody: one answer, so that nobody learns which exist.
    assert refusals[0] == refusals[1] == refusals[2]
    with pytest.raises(AccountAmbiguous):
        account_of(bound, "36", ORG_ROCHE)


def test_choosing_again_replaces_the_choice_and_removing_it_forgets_it(bound: Database) -> None:
    with bound.transaction() as conn:
        bind_ticket(conn, PROJECT, "35", ROCHE, organization=ORG_ROCHE, actor="lead")
    assert account_of(bound, "35", ORG_ROCHE) == ROCHE
    with bound.transaction() as conn:
        accounts.unbind(conn, PROJECT, BindingKind.TICKET, "35", ROCHE, actor="lead")
        with pytest.raises(BindingNotFound):
            accounts.unbind(conn, PROJECT, BindingKind.TICKET, "35", ROCHE, actor="lead")
    with pytest.raises(AccountAmbiguous):
        account_of(bound, "35", ORG_ROCHE)


def test_of_many_who_choose_at_once_one_choice_stands(bound: Database) -> None:
    choices = [ROCHE, ROCHE_TEST] * 4
    barrier = threading.Barrier(len(choices))

    def choose(account: str) -> None:
        barrier.wait(60)
        with bound.transaction() as conn:
            bind_ticket(conn, PROJECT, "36", account, organization=ORG_ROCHE, actor="lead")

    with ThreadPoolExecutor(len(choices)) as pool:
        list(pool.map(choose, choices))
    with bound.reading() as conn:
        chosen = [one for one in accounts.list_bindings(conn, PROJECT) if one.zendesk_id == "36"]
        assert len(chosen) == 1
        assert audit.verify(conn) is None


def test_an_account_that_is_taken_away_is_gone_at_once(bound: Database) -> None:
    with bound.transaction() as conn:
        accounts.unbind(conn, PROJECT, BindingKind.ORGANIZATION, ORG_ROCHE, ROCHE_TEST, actor="olga")
    with pytest.raises(AccountNotBound, match="not one of its organization any more"):
        account_of(bound, "35", ORG_ROCHE)
    with bound.transaction() as conn:
        accounts.remove_customer(conn, PROJECT, LOTTE, actor="olga")
        assert all(one.account != LOTTE for one in accounts.list_bindings(conn, PROJECT))
        with pytest.raises(CustomerNotFound):
            accounts.remove_customer(conn, PROJECT, LOTTE, actor="olga")
        # Another project's binding of the same organization stays.
        assert resolve(conn, "globex", ticket=None, organization=ORG_LOTTE).account == FOREIGN
    with pytest.raises(AccountNotBound):
        account_of(bound, "1", ORG_LOTTE)


def test_a_customer_comes_back_as_it_was_put(database: Database) -> None:
    given = customer(
        ROCHE,
        role_name="Reader",
        regions=("ap-northeast-2", "us-east-1"),
        language=Language.ENGLISH,
        timezone="UTC",
    )
    with database.transaction() as conn:
        put_customer(conn, customer(ROCHE), actor="olga")
        put_customer(conn, given, actor="olga")
        assert accounts.customer(conn, PROJECT, ROCHE) == given


def test_every_change_is_recorded_without_the_external_id(bound: Database) -> None:
    with bound.transaction() as conn:
        accounts.put_agent(conn, PROJECT, INSTALLATION, USER, AgentRole.LEAD, actor="olga")
        accounts.remove_agent(conn, PROJECT, INSTALLATION, USER, actor="olga")
        accounts.unbind(conn, PROJECT, BindingKind.TICKET, "35", ROCHE_TEST, actor="lead")
        accounts.remove_customer(conn, PROJECT, LOTTE, actor="olga")
        entries = audit.entries(conn, project_id=PROJECT)
        assert audit.verify(conn) is None
    assert {entry.action for entry in entries} == {
        "support.customer_put",
        "support.customer_removed",
        "support.bound",
        "support.unbound",
        "support.agent_put",
        "support.agent_removed",
    }
    assert "x" * 40 not in str(entries)


def test_external_ids_are_long_and_never_the_same() -> None:
    made = {accounts.new_external_id() for _ in range(1000)}
    assert len(made) == 1000
    assert all(len(one) >= 32 for one in made)


# --- roles ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", [None, *AgentRole])
@pytest.mark.parametrize("needed", list(AgentRole))
def test_a_role_allows_all_that_the_one_before_does(
    tmp_path: Path, role: AgentRole | None, needed: AgentRole, sqlite_template: Path
) -> None:
    engine = sa.create_engine(f"sqlite:///{sqlite_template}")
    order = list(AgentRole)
    with engine.connect() as conn, conn.begin() as transaction:
        if role is not None:
            accounts.put_agent(conn, PROJECT, INSTALLATION, USER, role, actor="olga")
        # What an older session says does not count; another installation's role does not either.
        accounts.put_agent(conn, PROJECT, "1", USER, AgentRole.ADMINISTRATOR, actor="olga")
        agent = replace(AGENT, role=AgentRole.ADMINISTRATOR)
        if order.index(role or AgentRole.AGENT) >= order.index(needed):
            assert accounts.require_role(conn, agent, needed).role == (role or AgentRole.AGENT)
        else:
            with pytest.raises(AgentRoleMissing):
                accounts.require_role(conn, agent, needed)
        transaction.rollback()
    engine.dispose()


def test_a_role_is_given_replaced_and_taken(database: Database) -> None:
    with database.transaction() as conn:
        for role in (AgentRole.LEAD, AgentRole.ADMINISTRATOR):
            accounts.put_agent(conn, PROJECT, INSTALLATION, USER, role, actor="olga")
        listed = accounts.list_agents(conn, (INSTALLATION,))
        assert [(one.user, one.role) for one in listed] == [(USER, AgentRole.ADMINISTRATOR)]
        assert accounts.list_agents(conn, ()) == ()
        accounts.remove_agent(conn, PROJECT, INSTALLATION, USER, actor="olga")
        assert accounts.role_of(conn, INSTALLATION, USER) is AgentRole.AGENT
        with pytest.raises(AgentNotFound):
            accounts.remove_agent(conn, PROJECT, INSTALLATION, USER, actor="olga")


# --- Zendesk's API -------------------------------------------------------------------------------


@pytest.fixture
def zendesk() -> Iterator[ZendeskServer]:
    with running_zendesk() as server:
        yield server


def installed(folder: Path, **values: Any) -> Installation:
    return read_installations([installation_settings(folder, **values)]).by_id[INSTALLATION]


async def test_a_tickets_account_follows_its_organization_in_zendesk(
    bound: Database, zendesk: ZendeskServer, tmp_path: Path
) -> None:
    zendesk.organizations = {"1": int(ORG_LOTTE), "2": None, "35": int(ORG_ROCHE)}
    installations = Installations({INSTALLATION: installed(tmp_path, **zendesk.settings)})
    directory = Directory()

    async def found(ticket: str) -> str:
        return (await accounts.of_ticket(bound, directory, installations, AGENT, ticket)).account

    assert await found("1") == LOTTE
    assert await found("35") == ROCHE_TEST
    with pytest.raises(AccountNotBound):
        await found("2")
    with pytest.raises(TicketUnknown):
        await found("99")
    with pytest.raises(ZendeskIdInvalid):
        await found("../users/1")
    await directory.close()
    assert {path.split("?")[0] for path in zendesk.asked} == {
        f"/api/v2/tickets/{ticket}.json" for ticket in ("1", "35", "2", "99")
    }


async def test_what_zendesk_said_is_remembered_for_a_minute(zendesk: ZendeskServer, tmp_path: Path) -> None:
    zendesk.organizations = {"1": 5}
    clock = [0.0]
    directory, acme = Directory(now=lambda: clock[0]), installed(tmp_path, **zendesk.settings)
    assert [await directory.organization_of(acme, "1") for _ in range(3)] == ["5"] * 3
    assert len(zendesk.asked) == 1
    zendesk.organizations = {"1": 6}
    clock[0] = 61.0
    assert await directory.organization_of(acme, "1") == "6"
    await directory.close()


@pytest.mark.parametrize(
    ("user", "allowed"),
    [
        ({"role": "agent"}, True),
        ({"role": "admin"}, True),
        ({"role": "end-user"}, False),
        ({"role": None}, False),
        ({"role": "agent", "suspended": True}, False),
        ({"role": "agent", "active": False}, False),
        (None, False),
    ],
    ids=["agent", "admin", "end user", "no role", "suspended", "deleted", "unknown"],
)
async def test_only_active_agents_get_in(
    zendesk: ZendeskServer, tmp_path: Path, user: dict[str, Any] | None, allowed: bool
) -> None:
    if user is not None:
        zendesk.agent(USER, **user)
    directory, acme = Directory(), installed(tmp_path, **zendesk.settings)
    if allowed:
        await directory.require_agent(acme, USER)
    else:
        with pytest.raises(NotAnAgent):
            await directory.require_agent(acme, USER)
    await directory.close()


@pytest.mark.parametrize(
    ("failing", "body", "error"),
    [
        (503, None, ZendeskUnavailable),
        (429, None, ZendeskThrottled),
        (403, None, ZendeskRefused),
        (302, None, ZendeskRefused),
        (None, b"<html>", ZendeskRefused),
        (None, b"[]", ZendeskRefused),
        (None, b" " * 2_000_000, ZendeskRefused),
    ],
    ids=["down", "throttled", "refused", "a redirect is not followed", "a page", "a list", "megabytes"],
)
async def test_an_api_that_fails_is_said_so(
    zendesk: ZendeskServer,
    tmp_path: Path,
    failing: int | None,
    body: bytes | None,
    error: type[FairleadError],
) -> None:
    zendesk.organizations, zendesk.failing, zendesk.body = {"2": 5}, failing, body
    directory, acme = Directory(), installed(tmp_path, **zendesk.settings)
    with pytest.raises(error) as caught:
        await directory.organization_of(acme, "2")
    await directory.close()
    said = str(caught.value.problem())
    assert "zendesk-api-token" not in said
    assert "127.0.0.1" not in said
    assert all(path == "/api/v2/tickets/2.json" for path in zendesk.asked)


async def test_wrong_credentials_of_the_api_are_no_missing_ticket(
    zendesk: ZendeskServer, tmp_path: Path
) -> None:
    acme = installed(tmp_path, **{**zendesk.settings, "api_token": "another"})
    directory = Directory()
    with pytest.raises(ZendeskRefused, match="status 401"):
        await directory.organization_of(acme, "1")
    await directory.close()


async def test_an_api_that_is_not_there_is_unavailable(tmp_path: Path, zendesk: ZendeskServer) -> None:
    given = {**zendesk.settings, "api_url": "http://127.0.0.1:1"}
    directory, acme = Directory(), installed(tmp_path, **given)
    with pytest.raises((ZendeskUnavailable, DeadlineExceeded)):
        await directory.organization_of(acme, "1")
    await directory.close()


async def test_without_an_api_nobody_is_asked(tmp_path: Path) -> None:
    directory, acme = Directory(), installed(tmp_path)
    assert await directory.organization_of(acme, "1") is None
    await directory.require_agent(acme, USER)
    await directory.close()


async def test_health_names_an_api_that_failed_for_a_minute_or_until_it_answers(
    zendesk: ZendeskServer, tmp_path: Path
) -> None:
    clock = [0.0]
    directory, acme = Directory(now=lambda: clock[0]), installed(tmp_path, **zendesk.settings)
    zendesk.organizations = {"1": 5}
    await directory.check()
    for ends_it in ("an answer", "time"):
        zendesk.failing = 403
        with pytest.raises(ZendeskRefused):
            await directory.organization_of(acme, "2")
        with pytest.raises(ZendeskRefused):
            await directory.check()
        zendesk.failing = None
        if ends_it == "time":
            clock[0] += 61.0
        else:
            await directory.organization_of(acme, "1")
        await directory.check()
    assert len(zendesk.asked) == 3  # the check itself asks nobody
    await directory.close()
