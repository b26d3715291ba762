"""Fairlead's own screening: a module for each service, collecting apart from judging."""
