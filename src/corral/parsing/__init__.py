"""Streaming parsers: text comes in pieces, what is certain goes out, what may be the start of a mark is held back."""

from corral.parsing.marks import StopMatcher, ThinkingSplitter, thinking_tags

__all__ = ["StopMatcher", "ThinkingSplitter", "thinking_tags"]
