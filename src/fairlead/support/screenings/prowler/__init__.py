"""Prowler behind the port: its own program in its own environment, driven line by line."""
