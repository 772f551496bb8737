"""What an answer may be, as a grammar that the engine holds it to (GBNF): from JSON Schemas and regular expressions.

Knows texts and no models. Whatever cannot be said in a grammar is refused with the keyword and its place: `InvalidRequest`.
"""

from corral.grammar.bounds import longest
from corral.grammar.gbnf import Grammar, literal
from corral.grammar.regex import add_regex
from corral.grammar.schema import add_json, add_schema
from corral.grammar.texts import add_grammar

__all__ = ["Grammar", "add_grammar", "add_json", "add_regex", "add_schema", "literal", "longest"]
