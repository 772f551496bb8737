"""The server: the app on a socket, for as long as nobody stops it."""

from corral.server.run import run

__all__ = ["run"]
