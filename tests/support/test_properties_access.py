"""The seed's property 7, Cross-Account Authentication Consistency, against a sandbox that enforces trust."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fairlead.support.access import Accesses, open_accesses
from fairlead.support.collect import Keys
from fairlead.support.model import Customer
from fairlead.support.refusals import AccessRefused
from tests.support.cross_accounts import (
    ACME,
    CUSTOMERS,
    GLOBEX,
    HOME,
    REGION,
    ROLE,
    World,
    customer,
    external_id,
    start_world,
)

WAYS: dict[str, dict[str, Any]] = {"parameter-store": {"stored": True}, "hub": {}, "straight": {"hub": False}}
IDS = [external_id(ACME), external_id(GLOBEX), "guessed-0123456789", None]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with start_world(tmp_path_factory.mktemp("world")) as running:
        yield running


def may_be_opened(one: Customer) -> bool:
    """What the trust policies of this world say."""
    if one.external_id is None:
        return one.account == HOME
    trusting = one.account in CUSTOMERS and (one.role_name or ROLE) == ROLE
    return trusting and one.external_id == external_id(one.account)


def as_recorded(account: str) -> st.SearchStrategy[Customer]:
    """A customer as an administrator may have put it, rightly or wrongly."""
    return st.builds(
        customer,
        st.just(account),
        role_name=st.sampled_from([None, None, ROLE, "Untrusting", "Nobody"]),
        external_id=st.sampled_from([external_id(account), external_id(account), *IDS]),
    )


ACCOUNTS = (ACME, GLOBEX, HOME, "123123123123")
records = st.fixed_dictionaries({account: as_recorded(account) for account in ACCOUNTS})
# What agents and tickets are called is not ours to choose.
names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=90)


def account_of(world: World, keys: Keys) -> str:
    """Whose the credentials are, as AWS sees it."""
    sts = boto3.client(
        "sts",
        endpoint_url=world.sandbox.endpoint_url,
        region_name=REGION,
        aws_access_key_id=keys.access_key_id,
        aws_secret_access_key=keys.secret_access_key.get_secret_value(),
        aws_session_token=keys.session_token.get_secret_value() if keys.session_token else None,
    )
    return str(sts.get_caller_identity()["Account"])


async def check(world: World, accesses: Accesses, one: Customer, agent: str, ticket: str) -> None:
    """Opened for exactly the customers that trust us, always as the account that was asked for."""
    if not may_be_opened(one):
        with pytest.raises(AccessRefused) as refusal:
            await accesses.open(one, actor=agent, ticket=ticket)
        assert one.external_id is None or one.external_id not in str(refusal.value.problem())
        return
    access = await accesses.open(one, actor=agent, ticket=ticket)
    keys = await access.keys()
    assert await accesses.open(one, actor=agent, ticket=ticket) is access
    assert await access.keys() == keys
    assert access.account == one.account
    assert await asyncio.to_thread(account_of, world, keys) == one.account


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_property_7_cross_account_consistency(world: World, tmp_path: Path, way: dict[str, Any]) -> None:
    configured = world.settings(tmp_path, **way)

    @settings(
        max_examples=15,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
        phases=[Phase.explicit, Phase.generate],
    )
    @given(
        known=records,
        asked=st.lists(st.tuples(st.sampled_from(ACCOUNTS), names, names), min_size=2, max_size=5),
    )
    def holds(known: dict[str, Customer], asked: list[tuple[str, str, str]]) -> None:
        async def all_at_once() -> None:
            async with open_accesses(configured) as accesses:
                checks = (check(world, accesses, known[account], *whom) for account, *whom in asked)
                await asyncio.gather(*checks)

        asyncio.run(all_at_once())

    holds()
