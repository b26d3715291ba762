"""Engines that screen an account, all behind one port."""

from fairlead.kernel import toolenv
from fairlead.kernel.settings import Settings
from fairlead.support.screenings.builtin.engine import BuiltinScreening
from fairlead.support.screenings.port import Reached, ScreeningEngine, ScreeningScopeInvalid, Workshop
from fairlead.support.screenings.prowler.engine import ProwlerScreening
from fairlead.support.screenings.service_screener.engine import ServiceScreenerScreening

ENGINES: tuple[type[ScreeningEngine], ...] = (BuiltinScreening, ProwlerScreening, ServiceScreenerScreening)
# What an engine installs, on first use or by `fairlead support engines install`: tool and size on disk.
INSTALLS = {"prowler": ("prowler", "190 MB"), "service-screener": ("service-screener", "50 MB")}


def workshop(settings: Settings) -> Workshop:
    """Where engines find what they need."""
    return Workshop(toolenvs=settings.toolenvs, service_screener=settings.support.service_screener)


def known_engine(name: str) -> type[ScreeningEngine]:
    """The engine `name`. Raises ScreeningScopeInvalid where there is none."""
    for kind in ENGINES:
        if kind.name == name:
            return kind
    known = ", ".join(kind.name for kind in ENGINES)
    raise ScreeningScopeInvalid(f"There is no engine {name!r}.", remedy=f"Choose among {known}.")


def engine(name: str, account: Reached, place: Workshop) -> ScreeningEngine:
    """The engine `name`, for one screening of `account`. Raises ScreeningScopeInvalid where there is none."""
    return known_engine(name)(account, place)


def installs(name: str, place: Workshop) -> str | None:
    """How much (on disk) the first screening with the engine `name` will install; None: nothing."""
    if name not in INSTALLS or place.interpreter is not None:
        return None
    tool, size = INSTALLS[name]
    return None if toolenv.is_built(tool, root=place.toolenvs) else size
