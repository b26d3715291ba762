"""What runs inside MiniStack's own environment: standard library and MiniStack only.

Started by path (`python …/inside/__main__.py`); nothing else of Fairlead can be imported here.
"""
