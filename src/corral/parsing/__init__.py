"""Streaming parsers: text comes in pieces, what is certain goes out, what may be the start of a mark is held back."""

from corral.parsing.calls import ParsedCall
from corral.parsing.formed import FormSplitter
from corral.parsing.forms import CallForm
from corral.parsing.marks import StopMatcher, ThinkingSplitter, tags_in, thinking_tags
from corral.parsing.pieces import Splitter, ToolPiece
from corral.parsing.tools import ToolCallSplitter

__all__ = [
    "CallForm",
    "FormSplitter",
    "ParsedCall",
    "Splitter",
    "StopMatcher",
    "ThinkingSplitter",
    "ToolCallSplitter",
    "ToolPiece",
    "tags_in",
    "thinking_tags",
]
