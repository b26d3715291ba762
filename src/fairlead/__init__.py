"""Fairlead: every effect on the outside world is a durable, authorised, audited run."""

__version__ = "0.1.0"
