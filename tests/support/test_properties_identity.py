"""Property 4: who is not vouched for does not get in, and nobody gets to an account that is not theirs."""

import itertools
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.kernel.errors import FairleadError, Unauthenticated
from fairlead.kernel.projects.tokens import SigningKey
from fairlead.support import accounts
from fairlead.support.model import Agent, AgentRole, Customer
from fairlead.support.zendesk import (
    LEEWAY_S,
    MAX_AGE_S,
    Installation,
    Installations,
    claim,
    issue_session,
    read_installations,
    read_session,
    verify_signed_url,
)
from tests.support.zendesk_keys import installation_settings, private_key, signed_url_token

NOW = datetime(2026, 11, 20, 10, 0, 0, tzinfo=UTC)
KEY = SigningKey(b"s" * 32)
PROJECTS = ("acme", "globex")  # each with a Zendesk and an installation of its own
ACCOUNTS = tuple(str(number) * 12 for number in range(1, 5))
ORGANIZATIONS, TICKETS, USERS = ("7001", "7002"), ("35", "36"), ("501", "502")
PLACES = {"acme": "11", "globex": "12"}


@dataclass(frozen=True)
class Attempt:
    """Somebody opens the app and asks about a ticket."""

    claimed: str  # whose installation the token names
    signer: str  # whose key signed it
    issuer: str
    algorithm: str
    age_s: int
    lives_s: int
    location: str
    user: str
    times: int  # how often the token is shown
    waits_s: int  # from opening to asking
    ticket: str
    organization: str  # as Zendesk says

    @property
    def vouched(self) -> bool:
        """Whether Zendesk really said so, now, of this place."""
        return (
            self.signer == self.claimed == self.issuer
            and self.algorithm == "RS256"
            and -LEEWAY_S <= self.age_s <= MAX_AGE_S
            and self.lives_s - self.age_s + LEEWAY_S > 0
            and self.location == "ticket_sidebar"
        )


# What may be wrong with an attempt: nothing, one thing or two, so that each check has to stand alone.
WRONG: dict[str, st.SearchStrategy[Any]] = {
    "signer": st.sampled_from((*PROJECTS, "nobody")),
    "issuer": st.sampled_from(PROJECTS),
    "algorithm": st.sampled_from(("RS512", "PS256")),
    "age_s": st.integers(-120, MAX_AGE_S + 120),
    "lives_s": st.integers(0, 120),
    "location": st.sampled_from(("nav_bar", "modal")),
    "times": st.integers(2, 3),
    "waits_s": st.integers(0, 1800),
}


@st.composite
def attempts(draw: st.DrawFn) -> Attempt:
    claimed = draw(st.sampled_from(PROJECTS))
    right: dict[str, Any] = {
        "signer": claimed,
        "issuer": claimed,
        "algorithm": "RS256",
        "age_s": 1,
        "lives_s": 3600,
        "location": "ticket_sidebar",
        "times": 1,
        "waits_s": 0,
    }
    wrong = draw(st.lists(st.sampled_from(sorted(WRONG)), max_size=2, unique=True))
    return Attempt(
        claimed=claimed,
        user=draw(st.sampled_from(USERS)),
        ticket=draw(st.sampled_from(TICKETS)),
        organization=draw(st.sampled_from((*ORGANIZATIONS, *ORGANIZATIONS, ""))),
        **{**right, **{name: draw(WRONG[name]) for name in wrong}},
    )


Rows = frozenset[tuple[str, str, str]]  # (project, organization or ticket, account)
bound_organizations = st.frozensets(
    st.tuples(st.sampled_from(PROJECTS), st.sampled_from(ORGANIZATIONS), st.sampled_from(ACCOUNTS)),
    max_size=8,
)
bound_tickets = st.dictionaries(
    st.tuples(st.sampled_from(PROJECTS), st.sampled_from(TICKETS)), st.sampled_from(ACCOUNTS), max_size=3
)
roles = st.dictionaries(
    st.tuples(st.sampled_from(PROJECTS), st.sampled_from(USERS)), st.sampled_from(list(AgentRole)), max_size=3
)


@pytest.fixture(scope="module")
def installations(tmp_path_factory: pytest.TempPathFactory) -> Installations:
    folder = tmp_path_factory.mktemp("keys")
    return read_installations(
        installation_settings(
            folder, key=one, id=PLACES[one], project=one, subdomain=one, shared_secret=one[0] * 40
        )
        for one in PROJECTS
    )


@pytest.fixture(scope="module")
def engine(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[sa.Engine]:
    """A database in which both projects have every account, bound to nobody."""
    path = tmp_path_factory.mktemp("property") / "accounts.db"
    shutil.copy(sqlite_template, path)
    made = sa.create_engine(f"sqlite:///{path}")
    with made.begin() as conn:
        for project, account in itertools.product(PROJECTS, ACCOUNTS):
            one = Customer(project_id=project, account=account, name="x", role_name=None, external_id=None)
            accounts.put_customer(conn, one, actor="olga")
    yield made
    made.dispose()


def token_of(attempt: Attempt, installation: Installation) -> str:
    made = NOW - timedelta(seconds=attempt.age_s)
    return signed_url_token(
        installation,
        attempt.user,
        now=made,
        key=private_key(attempt.signer),
        algorithm=attempt.algorithm,
        iss=f"{attempt.issuer}.zendesk.com",
        exp=int(made.timestamp()) + attempt.lives_s,
        context={"product": "support", "location": attempt.location},
    )


def open_app(conn: sa.Connection, installations: Installations, attempt: Attempt) -> list[str]:
    """The sessions that showing the token so often opens."""
    token = token_of(attempt, installations.by_id[PLACES[attempt.claimed]])
    opened = []
    for _ in range(attempt.times):
        try:
            vouched = verify_signed_url(installations, token, now=NOW)
            claim(conn, vouched, now=NOW)
        except Unauthenticated:
            continue
        agent = Agent(
            installation=vouched.installation.id,
            user=vouched.user,
            project_id=vouched.installation.project_id,
            role=accounts.role_of(conn, vouched.installation.id, vouched.user),
        )
        opened.append(issue_session(KEY, agent, NOW, 900))
    return opened


def allowed(attempt: Attempt, organizations: Rows, tickets: dict[tuple[str, str], str]) -> str | None:
    """The account that bindings give to the attempt's ticket, worked out anew."""
    theirs = {a for p, o, a in organizations if (p, o) == (attempt.claimed, attempt.organization)}
    chosen = tickets.get((attempt.claimed, attempt.ticket))
    if chosen is not None:
        return chosen if chosen in theirs else None
    return theirs.pop() if len(theirs) == 1 else None


def fill(
    conn: sa.Connection,
    organizations: Rows,
    tickets: dict[tuple[str, str], str],
    given_roles: dict[tuple[str, str], AgentRole],
) -> None:
    for project, organization, account in sorted(organizations):
        accounts.bind_organization(conn, project, organization, account, actor="olga")
    for (project, ticket), account in tickets.items():
        accounts.bind_ticket(conn, project, ticket, account, organization=None, actor="olga")
    for (project, user), role in given_roles.items():
        accounts.put_agent(conn, project, PLACES[project], user, role, actor="olga")


@given(attempt=attempts(), organizations=bound_organizations, tickets=bound_tickets, given_roles=roles)
@settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_property_4_authentication_and_authorization(
    engine: sa.Engine,
    installations: Installations,
    attempt: Attempt,
    organizations: Rows,
    tickets: dict[tuple[str, str], str],
    given_roles: dict[tuple[str, str], AgentRole],
) -> None:
    with engine.connect() as conn, conn.begin() as transaction:
        fill(conn, organizations, tickets, given_roles)
        opened = open_app(conn, installations, attempt)
        # Exactly who is vouched for gets in, exactly once.
        assert len(opened) == (1 if attempt.vouched else 0)
        for token in opened:
            check_session(conn, token, attempt, organizations, tickets, given_roles)
        transaction.rollback()


def check_session(
    conn: sa.Connection,
    token: str,
    attempt: Attempt,
    organizations: Rows,
    tickets: dict[tuple[str, str], str],
    given_roles: dict[tuple[str, str], AgentRole],
) -> None:
    later = NOW + timedelta(seconds=attempt.waits_s)
    if attempt.waits_s >= 900:
        with pytest.raises(FairleadError, match="expired"):
            read_session(KEY, token, later)
        return
    agent = read_session(KEY, token, later).agent
    role = given_roles.get((attempt.claimed, attempt.user), AgentRole.AGENT)
    assert agent == Agent(
        installation=PLACES[attempt.claimed], user=attempt.user, project_id=attempt.claimed, role=role
    )
    expected = allowed(attempt, organizations, tickets)
    try:
        found = accounts.resolve(
            conn, agent.project_id, ticket=attempt.ticket, organization=attempt.organization
        )
        assert (found.project_id, found.account) == (attempt.claimed, expected)
    except FairleadError as error:
        assert expected is None
        own = {a for p, o, a in organizations if (p, o) == (attempt.claimed, attempt.organization)}
        named = {account for account in ACCOUNTS if account in str(error.problem())}
        assert named <= own
