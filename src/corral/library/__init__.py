"""What a user does with the models on this machine: list, show, resolve, create, copy, delete."""

from corral.library.creating import Creation
from corral.library.description import Details, ModelDetails, ModelSpec, ModelSummary
from corral.library.library import Library
from corral.library.verification import Verification
from corral.library.wanted import WantedModel

__all__ = ["Creation", "Details", "Library", "ModelDetails", "ModelSpec", "ModelSummary", "Verification", "WantedModel"]
