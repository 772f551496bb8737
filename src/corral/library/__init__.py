"""What a user does with the models on this machine: list, show, resolve, copy, delete."""

from corral.library.description import Details, ModelDetails, ModelSpec, ModelSummary
from corral.library.library import Library
from corral.library.verification import Verification

__all__ = ["Details", "Library", "ModelDetails", "ModelSpec", "ModelSummary", "Verification"]
