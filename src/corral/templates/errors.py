"""What a function of a template complains about; the evaluator says where."""

from __future__ import annotations


class FunctionError(Exception):
    """A function cannot take its arguments; the text is Go's."""
