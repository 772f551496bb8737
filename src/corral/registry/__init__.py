"""Models from other machines: the distribution protocol, and pulling by it."""

from corral.registry.pull import Progress, Puller

__all__ = ["Progress", "Puller"]
