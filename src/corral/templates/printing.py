"""What Go's fmt makes of any value: print, println, and the arguments of printf.

Source: the documentation of package fmt (Go 1.26). Where Go prints an address, it is always `ADDRESS` here.
"""

from __future__ import annotations

from collections.abc import Sequence

from corral.errors import TemplateError
from corral.templates.limits import Budget
from corral.templates.values import (
    BYTES,
    UINT8,
    Interface,
    Kind,
    Map,
    Pointer,
    Slice,
    Struct,
    as_map,
    as_slice,
    encoded,
    is_nil,
    kind_of,
    plain,
    sorted_items,
    type_of,
    unwrapped,
)
from corral.templates.verbs import Writer

ADDRESS = 0x1234567890A0
MAX_DEPTH = 200
_WORD = (1 << 64) - 1


def sprint(values: Sequence[object], budget: Budget) -> str:
    """As fmt.Sprint: blanks between values of which neither is text."""
    printer = Printer(budget)
    was_text = False
    for number, value in enumerate(values):
        is_text = kind_of(unwrapped(value)) is Kind.STRING
        if number and not is_text and not was_text:
            printer.write(" ")
        printer.argument(value)
        was_text = is_text
    return printer.text()


def sprintln(values: Sequence[object], budget: Budget) -> str:
    """As fmt.Sprintln: blanks between all, and a new line."""
    printer = Printer(budget)
    for number, value in enumerate(values):
        if number:
            printer.write(" ")
        printer.argument(value)
    printer.write("\n")
    return printer.text()


class Printer(Writer):
    """Prints values one after another under its flags."""

    def __init__(self, budget: Budget) -> None:
        super().__init__(budget)
        self._complaining = False  # inside %!d(...), where methods are not asked

    def argument(self, value: object, verb: str = "v") -> None:
        """Print a value under a verb. TemplateError: it is nested too deep, or becomes too long."""
        value = unwrapped(value)
        if value is None:
            if verb in "Tv":
                self.pad("<nil>")
            else:
                self._bad_verb(verb, None)
        elif verb == "T":
            self.string(type_of(value).name)
        elif verb == "p":
            self._address(value, "p")
        elif type_of(value) is BYTES:
            self._bytes(value, verb)
        else:
            self._value(value, verb, 0)

    def _value(self, value: object, verb: str, depth: int) -> None:
        """Print what stands ``depth`` deep in an argument."""
        if type(value) is Interface:
            if value.value is None:
                self.write("interface {}(nil)" if self.flags.sharp_v else "<nil>")
                return
            value, depth = value.value, depth + 1
        if depth > MAX_DEPTH:
            raise TemplateError(f"template: a value is nested more than {MAX_DEPTH} deep")
        if self._method(value, verb):
            return
        match kind_of(value):
            case Kind.MAP:
                self._map(as_map(value), verb, depth)
            case Kind.SLICE:
                self._slice(as_slice(value), verb, depth)
            case Kind.STRUCT:
                assert isinstance(value, Struct)
                self._struct(value, verb, depth)
            case Kind.POINTER:
                assert isinstance(value, Pointer)
                self._pointer(value, verb, depth)
            case _:
                self._simple(value, verb)

    def _method(self, value: object, verb: str) -> bool:
        """Print by the value's String method, if it has one and the verb takes text."""
        if self._complaining:
            return False
        if verb == "w":
            self._bad_verb(verb, value)
            return True
        method = type_of(value).methods.get("String")
        if method is None or self.flags.sharp_v or verb not in "vsxXq":
            return False
        if type(value) is Pointer and value.target is None:
            self.write("<nil>")
            return True
        self._string(str(method(value.target if type(value) is Pointer else value)), verb, value)
        return True

    def _bad_verb(self, verb: str, value: object) -> None:
        self._complaining = True
        self.write(f"%!{verb}(")
        if value is None:
            self.write("<nil>")
        else:
            self.write(f"{type_of(value).name}=")
            self.argument(value)
        self.write(")")
        self._complaining = False

    def _simple(self, typed: object, verb: str) -> None:
        value = plain(typed)
        match value:
            case bool():
                if verb in "tv":
                    self.pad("true" if value else "false")
                else:
                    self._bad_verb(verb, typed)
            case str():
                self._string(value, verb, typed)
            case int():
                self._integer(value, verb, typed)
            case float():
                self._float(value, verb, typed)
            case complex():
                self._complex(value, verb)

    def _string(self, text: str, verb: str, typed: object) -> None:
        match verb:
            case "v" if self.flags.sharp_v:
                self.quoted(text)
            case "v" | "s":
                self.string(text)
            case "x" | "X":
                self.hex_string(encoded(text), upper=verb == "X")
            case "q":
                self.quoted(text)
            case _:
                self._bad_verb(verb, typed)

    def _integer(self, value: int, verb: str, typed: object) -> None:
        unsigned = kind_of(typed) is Kind.UINT
        if not -(_WORD >> 1) - 1 <= value <= _WORD:  # no Go integer: JSON would have made it a float
            value &= _WORD
        match verb:
            case "v" if self.flags.sharp_v and unsigned:
                self.address(value, prefix=True)
            case "v" | "d":
                self.integer(value, 10, verb)
            case "b":
                self.integer(value, 2, verb)
            case "o" | "O":
                self.integer(value, 8, verb)
            case "x" | "X":
                self.integer(value, 16, verb)
            case "c":
                self.character(value & _WORD)
            case "q":
                self.quoted_character(value & _WORD)
            case "U":
                self.unicode(value & _WORD)
            case _:
                self._bad_verb(verb, typed)

    def _float(self, value: float, verb: str, typed: object) -> None:
        match verb:
            case "v":
                self.float(value, "g", -1)
            case "b" | "g" | "G" | "x" | "X":
                self.float(value, verb, -1)
            case "f" | "F":
                self.float(value, "f", 6)
            case "e" | "E":
                self.float(value, verb, 6)
            case _:
                self._bad_verb(verb, typed)

    def _complex(self, value: complex, verb: str) -> None:
        if verb not in "vbgGxXfFeE":
            self._bad_verb(verb, value)
            return
        self.write("(")
        self._float(value.real, verb, value)
        plus, self.flags.plus = self.flags.plus, True
        self._float(value.imag, verb, value)
        self.flags.plus = plus
        self.write("i)")

    def _bytes(self, value: object, verb: str) -> None:
        """Print []byte, which several verbs take for text."""
        window = as_slice(value)
        if verb in "sxXq":
            self._byte_text(window, verb)
        elif verb not in "vd":
            self._slice(window, verb, 0)
        elif self.flags.sharp_v:
            self._braced("[]byte", window, verb, 0)
        else:
            self._listed(window, verb, 0)

    def _byte_text(self, window: Slice, verb: str) -> None:
        data = window.as_bytes()
        if verb in "xX":
            self.hex_string(data, upper=verb == "X")
        else:
            self._string(data.decode("utf-8", "surrogateescape"), verb, window)

    def _slice(self, window: Slice, verb: str, depth: int) -> None:
        if verb in "sqxX" and window.type.elem is UINT8:
            self._byte_text(window, verb)
        elif self.flags.sharp_v:
            self._braced(window.type.name, window, verb, depth)
        else:
            self._listed(window, verb, depth)

    def _braced(self, name: str, window: Slice, verb: str, depth: int) -> None:
        self.write(name)
        if window.items is None:
            self.write("(nil)")
            return
        self.write("{")
        for at in range(len(window)):
            if at:
                self.write(", ")
            self._value(window.at(at), verb, depth + 1)
        self.write("}")

    def _listed(self, window: Slice, verb: str, depth: int) -> None:
        self.write("[")
        for at in range(len(window)):
            if at:
                self.write(" ")
            self._value(window.at(at), verb, depth + 1)
        self.write("]")

    def _map(self, value: Map, verb: str, depth: int) -> None:
        sharp = self.flags.sharp_v
        if sharp and value.items is None:
            self.write(f"{value.type.name}(nil)")
            return
        self.write(f"{value.type.name}{{" if sharp else "map[")
        for number, (key, item) in enumerate(sorted_items(value)):
            if number:
                self.write(", " if sharp else " ")
            self._value(key, verb, depth + 1)
            self.write(":")
            self._value(item, verb, depth + 1)
        self.write("}" if sharp else "]")

    def _struct(self, value: Struct, verb: str, depth: int) -> None:
        sharp = self.flags.sharp_v
        self.write(f"{value.type.name}{{" if sharp else "{")
        for number, field in enumerate(value.type.fields):
            if number:
                self.write(", " if sharp else " ")
            if sharp or self.flags.plus_v:
                self.write(f"{field.name}:")
            item = value.get(field)
            self._value(item if is_nil(item) else unwrapped(item), verb, depth + 1)
        self.write("}")

    def _pointer(self, value: Pointer, verb: str, depth: int) -> None:
        target = unwrapped(value.target)
        if depth == 0 and target is not None and kind_of(target) in (Kind.SLICE, Kind.MAP, Kind.STRUCT):
            self.write("&")
            self._value(target, verb, 1)
        else:
            self._address(value, verb)

    def _address(self, value: object, verb: str) -> None:
        if kind_of(value) not in (Kind.SLICE, Kind.MAP, Kind.POINTER):
            self._bad_verb(verb, value)
            return
        address = 0 if is_nil(value) else ADDRESS
        match verb:
            case "v" if self.flags.sharp_v:
                self.write(f"({type_of(value).name})(")
                if address:
                    self.address(address, prefix=True)
                else:
                    self.write("nil")
                self.write(")")
            case "v" if not address:
                self.pad("<nil>")
            case "v" | "p":
                self.address(address, prefix=not self.flags.sharp)
            case "b" | "o" | "d" | "x" | "X":
                self.integer(address, {"b": 2, "o": 8, "d": 10}.get(verb, 16), verb)
            case _:
                self._bad_verb(verb, value)
