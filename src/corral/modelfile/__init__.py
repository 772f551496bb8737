"""The Modelfile language, in both directions. Knows nothing of stores, servers or the files that a Modelfile names."""

from corral.modelfile.definition import Definition, definition_of, semantic_version
from corral.modelfile.language import ROLES, Command
from corral.modelfile.reading import decode, read_modelfile
from corral.modelfile.writing import write_modelfile

__all__ = [
    "ROLES",
    "Command",
    "Definition",
    "decode",
    "definition_of",
    "read_modelfile",
    "semantic_version",
    "write_modelfile",
]
