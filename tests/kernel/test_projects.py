"""Projects, members and users on both databases: what must hold when two act at once."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import alembic.autogenerate
import alembic.runtime.migration
import pytest
import sqlalchemy as sa

from fairlead.kernel.clock import utc_now
from fairlead.kernel.db import Database, DatabaseBusy, metadata
from fairlead.kernel.projects import accounts, api_tokens, passwords, sessions, store
from fairlead.kernel.projects.access import PermissionMissing, ProjectArchived, authorise
from fairlead.kernel.projects.model import Actor, Permission, Project, ProjectSettings, Role, User

OURS = {"users", "login_attempts", "sessions", "refresh_tokens", "api_tokens", "projects", "members"}


def person(database: Database, name: str, *, is_admin: bool = False) -> User:
    with database.transaction() as conn:
        return accounts.create_user(conn, username=name, password_hash="-", is_admin=is_admin)


def actor(user: User) -> Actor:
    return Actor(user_id=user.id, username=user.username, is_admin=user.is_admin)


def project(database: Database, owner: User) -> Project:
    with database.transaction() as conn:
        return store.create(
            conn,
            project_id="shop",
            name="Shop",
            description="",
            settings=ProjectSettings(region="eu-central-1"),
            owner=actor(owner),
        )


def test_the_migration_makes_exactly_the_declared_tables(database: Database) -> None:
    with database.transaction() as conn:
        context = alembic.runtime.migration.MigrationContext.configure(conn, opts={"compare_type": True})
        differences = alembic.autogenerate.compare_metadata(context, metadata)
    ours = [one for one in differences if any(f"'{name}'" in repr(one) for name in OURS)]
    assert set(metadata.tables) >= OURS
    assert ours == []


def test_the_first_administrator_is_made_once_and_the_password_kept_nowhere(database: Database) -> None:
    def start(_: int) -> tuple[str, str | None]:
        with database.transaction() as conn:
            return accounts.ensure_admin(conn)

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(start, range(4)))
    assert {name for name, _ in made} == {"admin"}
    (password,) = [given for _, given in made if given is not None]
    passwords.check_rules(password, "admin")
    with database.reading() as conn:
        row = conn.execute(sa.select(accounts.users)).one()
    assert row.is_admin
    assert password not in repr(row)
    assert passwords.matches(password, row.password_hash)


def test_two_owners_who_leave_at_once_do_not_leave_the_project_alone(database: Database) -> None:
    ana, ben = person(database, "ana"), person(database, "ben")
    shop = project(database, ana)
    with database.transaction() as conn:
        store.set_member(conn, shop, ben, Role.OWNER)
    together = Barrier(2)

    def leave(name: str) -> str:
        together.wait(60)
        try:
            with database.transaction() as conn:
                store.remove_member(conn, shop, name)
        except store.LastOwner:
            return "stayed"
        return "left"

    with ThreadPoolExecutor(2) as pool:
        outcomes = dict(zip(("ana", "ben"), pool.map(leave, ("ana", "ben")), strict=True))
    assert sorted(outcomes.values()) == ["left", "stayed"]
    with database.reading() as conn:
        (owner,) = store.list_members(conn, shop.uid)
        assert outcomes[owner.username] == "stayed"
        assert store.find(conn, shop.id).owner == owner.username


def test_two_administrators_who_demote_each_other_at_once_leave_one(database: Database) -> None:
    pair = [person(database, name, is_admin=True) for name in ("ana", "ben")]
    together = Barrier(2)

    def demote(user: User) -> bool:
        together.wait(60)
        try:
            with database.transaction() as conn:
                accounts.update_user(conn, user, {"is_admin": False})
        except (accounts.LastAdmin, DatabaseBusy):  # the last one, or the loser of the databases' deadlock
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(demote, pair)) == [False, True]


def test_of_two_changes_at_once_one_is_stale(database: Database) -> None:
    shop = project(database, person(database, "ana"))
    together = Barrier(2)

    def change(name: str) -> str:
        together.wait(60)
        try:
            with database.transaction() as conn:
                store.update(conn, shop, {"name": name}, expected_version=1)
        except store.ProjectStale:
            return "stale"
        return name

    with ThreadPoolExecutor(2) as pool:
        outcomes = set(pool.map(change, ("A", "B")))
    (won,) = outcomes - {"stale"}
    with database.reading() as conn:
        found = store.find(conn, shop.id)
    assert (found.name, found.version, "stale" in outcomes) == (won, 2, True)
    assert found.settings.region == "eu-central-1"


def test_an_archived_project_can_be_read_and_stopped_but_not_changed_by_runs(database: Database) -> None:
    ana = person(database, "ana")
    shop = project(database, ana)
    with database.transaction() as conn:
        store.update(conn, shop, {"archived_at": shop.created_at})
    with database.reading() as conn:
        for permission in (Permission.STATE_READ, Permission.RUN_CANCEL, Permission.PROJECT_UPDATE):
            assert authorise(conn, actor(ana), "shop", permission).role is Role.OWNER
        for permission in (Permission.PLAN_CREATE, Permission.PLAN_APPROVE, Permission.APPLY):
            with pytest.raises(ProjectArchived):
                authorise(conn, actor(ana), "shop", permission)


def test_an_administrator_who_is_no_member_manages_but_does_not_approve(database: Database) -> None:
    project(database, person(database, "ana"))
    root = actor(person(database, "root", is_admin=True))
    with database.reading() as conn:
        assert authorise(conn, root, "shop", Permission.MEMBERS_MANAGE).role is None
        for permission in (Permission.PLAN_CREATE, Permission.PLAN_APPROVE, Permission.APPLY):
            with pytest.raises(PermissionMissing, match="no member"):
                authorise(conn, root, "shop", permission)


def test_deleting_a_project_takes_its_members_and_tokens_along(database: Database) -> None:
    ana = person(database, "ana")
    shop = project(database, ana)
    with database.transaction() as conn:
        api_tokens.create(conn, user_id=ana.id, name="theirs", project_uid=shop.uid)
        kept, _ = api_tokens.create(conn, user_id=ana.id, name="kept")
        store.delete(conn, shop)
    with database.reading() as conn:
        assert [token.id for token in api_tokens.list_of(conn, ana.id)] == [kept.id]
        assert store.list_members(conn, shop.uid) == []


def test_login_attempts_are_counted_together_and_forgotten_after_a_day(database: Database) -> None:
    def count(_: int) -> int:
        with database.transaction() as conn:
            return sessions.count_attempt(conn, "subject")

    with ThreadPoolExecutor(4) as pool:
        waits = list(pool.map(count, range(sessions.FREE_ATTEMPTS)))
    assert waits == [0] * sessions.FREE_ATTEMPTS
    with database.transaction() as conn:
        # None was lost, however they interleaved.
        attempts = conn.execute(sa.select(sessions.login_attempts.c.attempts)).scalar_one()
        assert attempts == sessions.FREE_ATTEMPTS
        conn.execute(sa.update(sessions.login_attempts).values(attempts=20))
    assert count(0) > 800
    with database.transaction() as conn:
        long_ago = sa.update(sessions.login_attempts).values(last_at=utc_now() - sessions.FORGET_ATTEMPTS * 2)
        conn.execute(long_ago)
    assert count(0) == 0
