"""The command line: each command is a verb of the Python interface with the same names and defaults."""

from fallow.cli.app import build_app, main

__all__ = ["build_app", "main"]
