"""Engines that screen an account, all behind one port."""

from fairlead.support.screenings.builtin.engine import BuiltinScreening
from fairlead.support.screenings.port import ScreeningEngine

ENGINES: tuple[type[ScreeningEngine], ...] = (BuiltinScreening,)
