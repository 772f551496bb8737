"""Models to and from other machines, by the distribution protocol."""

from corral.registry.credentials import Credential, Credentials
from corral.registry.keys import SigningKey
from corral.registry.progress import Progress
from corral.registry.reach import Reach
from corral.registry.repository import Identity
from corral.registry.through import PullThrough
from corral.registry.transfers import Outside, Transfers, Wish

__all__ = [
    "Credential",
    "Credentials",
    "Identity",
    "Outside",
    "Progress",
    "PullThrough",
    "Reach",
    "SigningKey",
    "Transfers",
    "Wish",
]
