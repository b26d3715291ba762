"""A small, dated table of AWS on-demand prices that needs no network; partial, and unknown is unknown."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """One region's prices in US dollars: `hourly` per hour, `monthly` per month."""

    source: str
    as_of: str  # ISO date
    hourly: Mapping[str, Any]
    monthly: Mapping[str, Any]


@cache
def prices(region: str) -> Prices | None:
    """The prices of `region`; None where the table does not hold it."""
    table = json.loads(files(__package__).joinpath("on_demand.json").read_text("utf-8"))
    found = table["regions"].get(region)
    if found is None:
        return None
    return Prices(
        source=f"{table['source']}, {region}",
        as_of=table["as_of"],
        hourly=found["hourly"],
        monthly=found["monthly"],
    )
