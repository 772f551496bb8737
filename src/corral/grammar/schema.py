"""JSON Schemas as grammars: an answer that is whole is of the schema.

Objects have their keys in the order in which the schema names them, and no others unless it asks for others. What no grammar
can enforce is refused by name. Sources: JSON Schema 2020-12 and draft 7, and OpenAPI's ``nullable``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from corral.errors import InvalidRequest
from corral.grammar.disjoint import never
from corral.grammar.gbnf import Grammar, character_class, complement, literal
from corral.grammar.keywords import Schema, bounds_of, check_keywords, refused, types_of
from corral.grammar.merging import NothingFits, holds, merged
from corral.grammar.numbers import add_integer, add_number
from corral.grammar.regex import add_regex
from corral.grammar.strings import INTEGERS, UNWRITTEN, add_text, fits, format_pattern, pattern_lengths

_DEEPEST = 100
_SPACE = '(" " | "\\n" [ \\t]{0,20})?'


def add_json(grammar: Grammar) -> str:
    """An expression for any object of JSON."""
    return _Schemas(grammar, {}).whole({"type": "object"})


def add_schema(grammar: Grammar, schema: Schema) -> str:
    """An expression for what ``schema`` describes. Raises `InvalidRequest` that names the keyword and its place."""
    try:
        return _Schemas(grammar, schema).whole(schema)
    except RecursionError as exc:
        raise InvalidRequest("the schema cannot be used: it is nested too deep") from exc


class _Schemas:
    def __init__(self, grammar: Grammar, root: Schema) -> None:
        self._grammar, self._root = grammar, root
        self._known: dict[tuple[str, str], str] = {}  # rules by the text of their schema
        self._open: set[str] = set()
        self._space = grammar.rule(_SPACE, "space")

    def whole(self, schema: Schema) -> str:
        try:
            return self._rule(schema, "#")
        except NothingFits as exc:
            raise InvalidRequest(f"the schema cannot be used: no value is of it: {exc}") from exc

    def _rule(self, schema: Any, place: str) -> str:
        """The name of a rule for ``schema``, which may be in the making."""
        if schema is True:
            schema = {}
        if schema is False:
            raise NothingFits(f"at {place} nothing is allowed")
        if not isinstance(schema, Mapping):
            raise InvalidRequest(f"the schema cannot be used: at {place} stands {schema!r}, which is no schema")
        if place.count("/") > 2 * _DEEPEST:
            raise InvalidRequest("the schema cannot be used: it is nested too deep")
        key = json.dumps(schema, sort_keys=False, default=str), ""
        if key not in self._known:
            self._known[key] = name = self._grammar.reserve("v")
            try:
                self._grammar.define(name, self._expression(schema, place))
            except NothingFits:
                self._grammar.define(name, '""')
                del self._known[key]
                raise
        return self._known[key]

    def _expression(self, schema: Schema, place: str) -> str:
        check_keywords(schema, place)
        schema = self._resolved(schema, place)
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                return self._choice(keyword, schema, place)
        if "const" in schema or "enum" in schema:
            return self._values(schema, place)
        ways, reasons = [], []
        for kind in types_of(schema, place):
            try:
                ways.append(self._of_type(kind, schema, place))
            except NothingFits as exc:
                reasons.append(str(exc))
        if not ways:
            raise NothingFits("; ".join(reasons))
        return " | ".join(dict.fromkeys(ways))

    def _of_type(self, kind: str, schema: Schema, place: str) -> str:
        if kind in ("number", "integer"):
            return self._number(kind, schema, place)
        if kind in ("null", "boolean"):
            return '"null"' if kind == "null" else '"true" | "false"'
        of = {"string": self._string, "array": self._array, "object": self._object}[kind]
        return of(schema, place)

    # -- schemas together ---------------------------------------------------------------------------------------

    def _resolved(self, schema: Schema, place: str, seen: tuple[str, ...] = ()) -> Schema:
        """``schema`` with what it refers to, and what must hold besides, in its place."""
        while "$ref" in schema or "allOf" in schema:
            rest = {k: v for k, v in schema.items() if k not in ("$ref", "allOf")}
            parts: list[Any] = list(schema.get("allOf", ()))
            if "$ref" in schema:
                if schema["$ref"] in seen:
                    raise refused(place, "$ref", f"refers to itself: {schema['$ref']!r}")
                seen = (*seen, schema["$ref"])
                parts.insert(0, self._referred(schema["$ref"], place))
            for part in parts:
                if part is True:
                    continue
                if not isinstance(part, Mapping):
                    raise (
                        NothingFits(f"at {place} nothing is allowed")
                        if part is False
                        else refused(place, "allOf", "needs schemas")
                    )
                check_keywords(part, place)
                if "$ref" in part or "allOf" in part:
                    part = self._resolved(part, place, seen)
                rest = merged(rest, part, place)
            schema = rest
        return schema

    def _referred(self, reference: str, place: str) -> Any:
        if reference != "#" and not reference.startswith("#/"):
            raise refused(place, "$ref", f"is {reference!r}, which is not in this schema")
        found: Any = self._root
        for step in reference[2:].split("/") if len(reference) > 1 else ():
            step = step.replace("~1", "/").replace("~0", "~")
            if isinstance(found, list) and step.isdigit() and int(step) < len(found):
                found = found[int(step)]
            elif isinstance(found, Mapping) and step in found:
                found = found[step]
            else:
                raise refused(place, "$ref", f"is {reference!r}, which is not in this schema")
        return found

    def _choice(self, keyword: str, schema: Schema, place: str) -> str:
        rest = {k: v for k, v in schema.items() if k != keyword}
        branches: list[tuple[Schema, str]] = []
        reasons: list[str] = []
        for number, branch in enumerate(schema[keyword]):
            at = f"{place}/{keyword}/{number}"
            try:
                branches.append((self._branch(rest, branch, at), at))
            except NothingFits as exc:
                reasons.append(str(exc))
        if keyword == "oneOf":
            self._check_one(branches, place)
        ways = []
        for branch, at in branches:
            try:
                ways.append(self._rule(branch, at))
            except NothingFits as exc:
                reasons.append(str(exc))
        if not ways:
            raise NothingFits("; ".join(reasons))
        return " | ".join(dict.fromkeys(ways))

    def _branch(self, rest: Schema, branch: Any, place: str) -> Schema:
        if branch is True:
            return rest
        if not isinstance(branch, Mapping):
            raise NothingFits(f"at {place} nothing is allowed")
        check_keywords(branch, place)
        alone = not any(keyword not in ("nullable",) for keyword in set(rest) - _BESIDE)
        if alone and "$ref" in branch:
            return branch  # a rule of its own, which may use itself
        return merged(rest, self._resolved(branch, place), place)

    def _check_one(self, branches: Sequence[tuple[Schema, str]], place: str) -> None:
        def resolve(schema: Any) -> Schema:
            return self._resolved(schema, place)

        for first, at in branches:
            for second, other in branches:
                if at != other and not never(resolve(first), resolve(second), resolve, place):
                    raise refused(
                        place,
                        "oneOf",
                        f"has branches that a value may be of at once ({at}, {other}); try: anyOf, or a const in each",
                    )

    # -- values --------------------------------------------------------------------------------------------------

    def _values(self, schema: Schema, place: str) -> str:
        values = [schema["const"]] if "const" in schema else schema["enum"]
        if (
            "const" in schema
            and "enum" in schema
            and not any(holds(v, {"const": schema["const"]}, place) for v in schema["enum"])
        ):
            raise NothingFits(f"at {place} the const is none of the enum")
        rest = {k: v for k, v in schema.items() if k not in ("const", "enum", "nullable")}
        allowed = [value for value in values if holds(value, rest, place)]
        if not allowed:
            raise NothingFits(
                f"at {place} no value of the {'const' if 'const' in schema else 'enum'} has the type and limits beside it"
            )
        return " | ".join(literal(json.dumps(value, ensure_ascii=False)) for value in allowed)

    def _number(self, kind: str, schema: Schema, place: str) -> str:
        step = schema.get("multipleOf")
        if step is not None and step != 1:
            raise refused(
                place,
                "multipleOf",
                "cannot be enforced while an answer is generated; try: leave it out and check the answer",
            )
        bounds, name = bounds_of(schema), schema.get("format")
        if name in INTEGERS:
            low, high = INTEGERS[name]
            bounds = bounds.and_(bounds_of({"minimum": low, "maximum": high}))
        whole = kind == "integer" or step == 1 or name in INTEGERS
        found = add_integer(self._grammar, bounds) if whole else add_number(self._grammar, bounds)
        if found is None:
            raise NothingFits(f"at {place} no {kind} is within the limits")
        return found

    def _string(self, schema: Schema, place: str) -> str:
        least, most = int(schema.get("minLength", 0)), schema.get("maxLength")
        if most is not None and least > most:
            raise NothingFits(f"at {place} minLength is more than maxLength")
        name = schema.get("format")
        pattern = schema.get("pattern")
        if name is not None and name not in UNWRITTEN:
            known = format_pattern(name)
            if known is None:
                raise refused(place, "format", f"is {name!r}, which cannot be enforced; try: a pattern")
            if pattern is not None:
                raise refused(place, "pattern", "stands beside a format; both at once cannot be enforced")
            pattern = known
        if pattern is None:
            return f'"\\"" {add_text(self._grammar, least, None if most is None else int(most))} "\\""'
        at = f"pattern at {place}"
        if ("minLength" in schema or "maxLength" in schema) and not fits(pattern_lengths(pattern, at), least, most):
            raise refused(
                place,
                "pattern",
                "matches texts that minLength and maxLength do not allow; try: say the length in the pattern",
            )
        return f'"\\"" {add_regex(self._grammar, pattern, place=at, in_json=True)} "\\""'

    # -- arrays --------------------------------------------------------------------------------------------------

    def _array(self, schema: Schema, place: str) -> str:
        least, most = int(schema.get("minItems", 0)), schema.get("maxItems")
        most = None if most is None else int(most)
        if schema.get("uniqueItems") and (most is None or most > 1):
            raise refused(
                place,
                "uniqueItems",
                "cannot be enforced while an answer is generated; try: leave it out and check the answer",
            )
        if schema.get("unevaluatedItems", False) is not False:
            raise refused(place, "unevaluatedItems", "cannot be enforced; try: items")
        first, rest = schema.get("prefixItems", ()), schema.get("items", {})
        if isinstance(rest, list):  # as it was up to draft 7
            first, rest = rest, schema.get("additionalItems", {})
        first = list(first)
        if first and "items" not in schema and "additionalItems" not in schema and least <= len(first):
            rest = False  # nobody said what further items are
        if most is not None and least > most:
            raise NothingFits(f"at {place} minItems is more than maxItems")
        if most is not None:
            first = first[:most]
        items = [self._rule(item, f"{place}/prefixItems/{number}") for number, item in enumerate(first)]
        more = None if most is None else most - len(items)
        return self._brackets(items, rest, max(least - len(items), 0), more, place)

    def _brackets(self, items: list[str], rest: Any, least: int, most: int | None, place: str) -> str:
        space = self._space
        comma = f'"," {space}'
        begin = f" {comma} ".join(items)
        try:
            item = None if most == 0 else self._rule(rest, f"{place}/items")
        except NothingFits:
            if least:
                raise
            item = None
        if item is None:
            return f'"[" {space} {begin} {space} "]"' if items else f'"[" {space} "]"'
        after = self._grammar.rule(f"{comma} {item}")
        if items:
            return f'"[" {space} {begin} {self._grammar.repeated(after, least, most)} {space} "]"'
        some = f"{item} {self._grammar.repeated(after, max(least - 1, 0), None if most is None else most - 1)}"
        inside = some if least else self._grammar.optional(some)
        return f'"[" {space} {inside} {space} "]"'

    # -- objects -------------------------------------------------------------------------------------------------

    def _object(self, schema: Schema, place: str) -> str:
        properties, required = dict(schema.get("properties", {})), schema.get("required", [])
        if schema.get("unevaluatedProperties", False) is not False:
            raise refused(place, "unevaluatedProperties", "cannot be enforced; try: additionalProperties")
        besides = schema.get("additionalProperties", not properties)
        for name in required:
            if name not in properties:
                if besides is False and "additionalProperties" in schema:
                    raise NothingFits(f"at {place} {name!r} is required, and not among the properties")
                properties[name] = schema.get("additionalProperties", True)
        pairs: list[tuple[str, bool]] = []
        for name, value in properties.items():
            try:
                pairs.append((self._pair(name, value, place), name in required))
            except NothingFits:
                if name in required:
                    raise
        self._check_numbers(schema, len(pairs), sum(needed for _, needed in pairs), besides, place)
        extra = None
        if besides is not False:
            try:
                key = f'"\\"" {self._other_keys(list(properties))} "\\""'
                extra = self._grammar.rule(
                    f'{key} ":" {self._space} {self._rule(besides, f"{place}/additionalProperties")}'
                )
            except NothingFits:
                extra = None
        return f'"{{" {self._space} {self._pairs(pairs, extra)} {self._space} "}}"'

    def _pair(self, name: str, schema: Any, place: str) -> str:
        step = name.replace("~", "~0").replace("/", "~1")
        value = self._rule(schema, f"{place}/properties/{step}")
        return self._grammar.rule(f'{literal(json.dumps(name, ensure_ascii=False))} ":" {self._space} {value}')

    def _check_numbers(self, schema: Schema, named: int, needed: int, besides: Any, place: str) -> None:
        least, most = schema.get("minProperties", 0), schema.get("maxProperties")
        if least > needed:
            raise refused(
                place, "minProperties", "is more than the properties that are required, which cannot be enforced"
            )
        if most is not None and (besides is not False or most < named):
            raise refused(place, "maxProperties", "is less than the properties there may be, which cannot be enforced")

    def _pairs(self, pairs: Sequence[tuple[str, bool]], extra: str | None) -> str:
        """Pairs in order, those that are not needed or not: from the last on, with and without something before."""
        grammar = self._grammar
        comma = f'"," {self._space}'
        after = f"({comma} {extra})*" if extra else '""'
        begin = f"({extra} {after})?" if extra else '""'
        for pair, needed in reversed(pairs):
            rest = grammar.rule(after)
            begin = f"{pair} {rest}" if needed else f"({pair} {rest} | {grammar.rule(begin)})"
            after = f"{comma} {pair} {rest}" if needed else f"({comma} {pair})? {rest}"
        return grammar.rule(begin)

    def _other_keys(self, names: list[str]) -> str:
        """The inside of keys that are none of ``names``, and are written without escapes."""
        written = [name for name in names if json.dumps(name, ensure_ascii=False) == f'"{name}"']
        return self._key_after(written, first=True)

    def _key_after(self, names: Sequence[str], *, first: bool) -> str:
        plain = complement([(0x22, 0x22), (0x5C, 0x5C), (0x7F, 0x7F)], 0x20)
        anything = self._grammar.rule(f"{character_class(plain)}{{0,60}}")
        begins: dict[str, list[str]] = {}
        for name in filter(None, names):
            begins.setdefault(name[0], []).append(name[1:])
        taken = [(ord(character),) * 2 for character in begins]
        other = character_class(complement([*taken, (0x22, 0x22), (0x5C, 0x5C), (0x7F, 0x7F)], 0x20))
        ways = [f"{other} {anything}"]
        ways += [f"{literal(character)} {self._key_after(rest, first=False)}" for character, rest in begins.items()]
        if "" not in names and not first:
            ways.append('""')
        return f"({' | '.join(ways)})"


_BESIDE = frozenset({"type"})
