"""The audit record on SQLite and PostgreSQL: complete, in order, and no change goes unnoticed."""

import threading
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.kernel import audit
from fairlead.kernel.clock import utc_now
from fairlead.kernel.db import Database


def record(database: Database, count: int = 1, **changes: Any) -> list[audit.Entry]:
    fields = {"actor": "ann", "action": "plan.approved", "subject": "plan:7", "project_id": "web"}
    with database.transaction() as connection:
        return [
            audit.append(connection, **{**fields, "data": {"number": number}, **changes})
            for number in range(count)
        ]


def broken_at(database: Database) -> int | None:
    with database.reading() as connection:
        return audit.verify(connection)


def change(database: Database, statement: sa.Executable) -> None:
    with database.transaction() as connection:
        connection.execute(statement)


def test_an_entry_is_read_back_as_it_was_appended(database: Database) -> None:
    data = {"digest": "ab", "who": ["ann", "bob"], "cost": 1.5, "none": None, "deep": {"ä": "\x00"}}
    before = utc_now()
    (written,) = record(database, data=data)
    with database.reading() as connection:
        (found,) = audit.entries(connection)
        assert audit.newest(connection) == found
    assert found == written
    assert (found.seq, found.previous_sha256, found.data) == (1, None, data)
    assert (found.actor, found.action, found.subject, found.project_id) == (
        "ann",
        "plan.approved",
        "plan:7",
        "web",
    )
    assert before - timedelta(seconds=1) <= found.at <= utc_now()
    assert found.at.tzinfo is not None


def test_entries_are_bound_to_each_other(database: Database) -> None:
    first, second, third = record(database, 3)
    assert [second.previous_sha256, third.previous_sha256] == [first.sha256, second.sha256]
    assert broken_at(database) is None


def test_an_empty_record_is_intact(database: Database) -> None:
    assert broken_at(database) is None
    with database.reading() as connection:
        assert audit.newest(connection) is None
        assert audit.entries(connection) == []


def test_an_entry_is_gone_with_the_transaction_that_it_told_of(database: Database) -> None:
    record(database)

    def fail() -> None:
        with database.transaction() as connection:
            audit.append(connection, actor="ann", action="plan.approved", subject="plan:8")
            raise RuntimeError("the work failed")

    with pytest.raises(RuntimeError):
        fail()
    (after,) = record(database)
    assert after.seq == 2
    assert broken_at(database) is None


def test_writers_at_the_same_time_make_one_chain_without_gaps(database: Database) -> None:
    failures: list[BaseException] = []

    def write(writer: int) -> None:
        try:
            for _ in range(3):
                record(database, actor=f"writer-{writer}")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert broken_at(database) is None
    with database.reading() as connection:
        assert [entry.seq for entry in audit.entries(connection)] == list(range(24, 0, -1))


TAMPERINGS = {
    "actor": sa.update(audit.table).where(audit.table.c.seq == 3).values(actor="eve"),
    "action": sa.update(audit.table).where(audit.table.c.seq == 3).values(action="plan.rejected"),
    "subject": sa.update(audit.table).where(audit.table.c.seq == 3).values(subject="plan:8"),
    "project": sa.update(audit.table).where(audit.table.c.seq == 3).values(project_id=None),
    "data": sa.update(audit.table).where(audit.table.c.seq == 3).values(data={"number": 9}),
    "time": sa.update(audit.table).where(audit.table.c.seq == 3).values(at=utc_now() - timedelta(days=1)),
    "digest": sa.update(audit.table).where(audit.table.c.seq == 3).values(sha256="0" * 64),
    "link": sa.update(audit.table).where(audit.table.c.seq == 3).values(previous_sha256="0" * 64),
    "removed": sa.delete(audit.table).where(audit.table.c.seq == 3),
    "moved": sa.update(audit.table).where(audit.table.c.seq == 3).values(seq=30),
}


class _Undo(Exception):
    pass


def test_any_change_is_found_at_its_place(database: Database) -> None:
    record(database, 5)
    assert broken_at(database) is None
    found = {}
    for name, tampering in TAMPERINGS.items():
        with suppress(_Undo), database.transaction() as connection:
            connection.execute(tampering)
            found[name] = audit.verify(connection)
            raise _Undo
    assert found == dict.fromkeys(TAMPERINGS, 3)
    assert broken_at(database) is None


def test_entries_cut_off_at_the_end_show_only_against_a_digest_kept_elsewhere(database: Database) -> None:
    kept = record(database, 3)[-1]
    change(database, sa.delete(audit.table).where(audit.table.c.seq >= 2))
    assert broken_at(database) is None
    record(database, 2)
    with database.reading() as connection:
        newest = audit.newest(connection)
    assert newest is not None
    assert (newest.seq, newest.sha256 == kept.sha256) == (kept.seq, False)


def test_a_record_longer_than_one_batch_is_verified_to_its_end(database: Database) -> None:
    record(database, audit.PAGE_MAX + 5)
    assert broken_at(database) is None
    change(
        database, sa.update(audit.table).where(audit.table.c.seq == audit.PAGE_MAX + 4).values(actor="eve")
    )
    assert broken_at(database) == audit.PAGE_MAX + 4


def test_entries_come_in_pages_newest_first_and_filtered(database: Database) -> None:
    record(database, 3)
    record(database, 2, project_id="api", subject="plan:8", action="plan.rejected")
    with database.reading() as connection:
        first = audit.entries(connection, limit=2)
        assert [entry.seq for entry in first] == [5, 4]
        assert [entry.seq for entry in audit.entries(connection, limit=2, before=first[-1].seq)] == [3, 2]
        assert [entry.seq for entry in audit.entries(connection, project_id="web")] == [3, 2, 1]
        assert [entry.seq for entry in audit.entries(connection, subject="plan:8")] == [5, 4]
        assert [entry.seq for entry in audit.entries(connection, action="plan.approved", limit=1)] == [3]
        assert audit.entries(connection, project_id="nobody") == []


REFUSED: dict[str, dict[str, Any]] = {
    "password": {"data": {"password": "hunter2"}},
    "nested": {"data": {"nested": {"api_token": "hunter2"}}},
    "in a list": {"data": {"listed": [{"Secret": "hunter2"}]}},
    "no number": {"data": {"number": float("nan")}},
    "no JSON": {"data": {"thing": object()}},
    "no text": {"data": {"text": "\ud800"}},
    **{f"NUL in {field}": {field: "nul\0"} for field in ("actor", "action", "subject", "project_id")},
    **{f"no text in {field}": {field: "\ud800"} for field in ("actor", "action", "subject", "project_id")},
}


def test_what_does_not_belong_there_is_refused_before_anything_is_written(database: Database) -> None:
    for name, changes in REFUSED.items():
        with pytest.raises(audit.AuditDataRefused) as error:
            record(database, **changes)
        assert "hunter2" not in str(error.value.problem()), name
    with database.reading() as connection:
        assert audit.newest(connection) is None


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=10)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)


@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.dictionaries(st.sampled_from("abc"), values), texts, texts)
def test_whatever_is_recorded_verifies_after_the_database_had_it(
    database: Database, data: dict[str, Any], actor: str, subject: str
) -> None:
    (written,) = record(database, data=data, actor=actor, subject=subject)
    with database.reading() as connection:
        assert audit.newest(connection) == written
        assert audit.verify(connection) is None
