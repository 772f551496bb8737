"""Streaming parsers: text comes in pieces, what is certain goes out, what may be the start of a mark is held back."""

from corral.parsing.calls import ParsedCall
from corral.parsing.marks import StopMatcher, ThinkingSplitter, thinking_tags
from corral.parsing.tools import ToolCallSplitter, ToolPiece

__all__ = ["ParsedCall", "StopMatcher", "ThinkingSplitter", "ToolCallSplitter", "ToolPiece", "thinking_tags"]
