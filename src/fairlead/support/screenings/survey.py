"""Whose account it is and which of its regions there are to read: what every engine asks before it plans."""

from dataclasses import dataclass

from fairlead.support.collect import Access, Account, ReadFailed, open_account
from fairlead.support.model import Unread
from fairlead.support.screenings.pace import EVERYWHERE
from fairlead.support.screenings.port import (
    Scope,
    ScreeningNothingToRead,
    ScreeningScopeInvalid,
    ScreeningWrongAccount,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """Where a screening takes place."""

    account: str
    regions: tuple[str, ...]
    regions_off: tuple[str, ...]
    gaps: tuple[Unread, ...]


async def surveyed(access: Access, scope: Scope) -> Ground:
    """Account and regions. Raises AccountUnreachable, ScreeningWrongAccount, ScreeningScopeInvalid."""
    async with open_account(access) as account:
        if scope.account not in (None, account.account):
            raise wrong_account(account.account, scope.account)
        regions, off, gaps = await _regions(account, scope)
    return Ground(account=account.account, regions=regions, regions_off=off, gaps=gaps)


def wrong_account(found: str, wanted: str | None) -> ScreeningWrongAccount:
    """The credentials are of `found`."""
    return ScreeningWrongAccount(
        f"The credentials are of {found}, and {wanted} was to be screened.",
        remedy="Use credentials of the account that the ticket belongs to.",
    )


async def _regions(
    account: Account, scope: Scope
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[Unread, ...]]:
    """(to read, switched off, gaps). Where regions cannot be listed, those asked for or the home region."""
    async with account.region(account.home) as reads:
        try:
            answer = await reads.call("ec2", "describe_regions", AllRegions=True)
        except ReadFailed as error:
            gap = Unread(
                service="ec2",
                region=EVERYWHERE,
                reason=f"Which regions there are is unknown: {error.message}",
            )
            return scope.regions or (account.home,), (), (gap,)
    state = {
        region["RegionName"]: region.get("OptInStatus", "opt-in-not-required") for region in answer["Regions"]
    }
    if unknown := sorted(set(scope.regions) - set(state)):
        raise ScreeningScopeInvalid(
            f"There is no region {', '.join(unknown)}.",
            remedy=f"Choose among {', '.join(sorted(state))}.",
            regions=unknown,
        )
    wanted = tuple(dict.fromkeys(scope.regions)) or tuple(sorted(state))
    off = tuple(region for region in wanted if state[region] == "not-opted-in")
    chosen = tuple(region for region in wanted if region not in off)
    if not chosen:
        raise ScreeningNothingToRead(
            f"Switched off in account {account.account}: {', '.join(off)}.",
            remedy="Choose a region that is switched on.",
        )
    gaps = tuple(
        Unread(service="all", region=region, reason="The region is switched off in this account.")
        for region in off
    )
    return chosen, off, gaps
