"""The command line. A command parses, calls one function, and prints; what it needs is imported when it runs."""

from corral.cli.main import main

__all__ = ["main"]
