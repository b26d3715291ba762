"""Dose engines behind one port; ENGINES is the list of what there is."""

from fairlead.cases.engines.port import DoseEngine, DoseRequest, DoseResult
from fairlead.cases.engines.reference import REFERENCE
from fairlead.kernel.errors import FairleadError

__all__ = ["ENGINES", "DoseEngine", "DoseRequest", "DoseResult", "EngineUnknown", "engine"]

ENGINES: tuple[DoseEngine, ...] = (REFERENCE,)


class EngineUnknown(FairleadError):
    """There is no dose engine of this name."""

    code, status, retryable = "cases.engine_unknown", 422, False


def engine(name: str) -> DoseEngine:
    """The engine called `name`. Raises EngineUnknown."""
    for candidate in ENGINES:
        if candidate.name == name:
            return candidate
    known = [candidate.name for candidate in ENGINES]
    raise EngineUnknown(
        f"There is no dose engine {name!r}.", remedy=f"Use one of: {', '.join(known)}.", engines=known
    )
