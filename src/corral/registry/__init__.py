"""Models to and from other machines, by the distribution protocol."""

from corral.registry.progress import Progress
from corral.registry.transfers import Transfers

__all__ = ["Progress", "Transfers"]
