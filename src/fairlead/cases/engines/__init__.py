"""Dose engines behind one port; ENGINES is the list of what there is."""

from collections.abc import Mapping
from typing import Any

from fairlead.cases.engines.command import COMMAND
from fairlead.cases.engines.mcsquare import MCSQUARE
from fairlead.cases.engines.moqui import MOQUI
from fairlead.cases.engines.port import FREE, Control, DicomSources, DoseEngine, DoseRequest, DoseResult
from fairlead.cases.engines.reference import REFERENCE
from fairlead.kernel.errors import FairleadError

__all__ = [
    "ENGINES",
    "FREE",
    "Control",
    "DicomSources",
    "DoseEngine",
    "DoseRequest",
    "DoseResult",
    "EngineUnknown",
    "engine",
]

ENGINES: tuple[DoseEngine, ...] = (REFERENCE, MCSQUARE, MOQUI, COMMAND)


class EngineUnknown(FairleadError):
    """There is no dose engine of this name."""

    code, status, retryable = "cases.engine_unknown", 422, False


def engine(name: str, options: Mapping[str, Any] | None = None) -> DoseEngine:
    """The engine called `name`, with `options`. Raises EngineUnknown, EngineOptionsInvalid."""
    for candidate in ENGINES:
        if candidate.name == name:
            return candidate.configured(options) if options else candidate
    known = [candidate.name for candidate in ENGINES]
    raise EngineUnknown(
        f"There is no dose engine {name!r}.", remedy=f"Use one of: {', '.join(known)}.", engines=known
    )
