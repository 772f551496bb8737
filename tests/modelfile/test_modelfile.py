"""The Modelfile language: what is read, what is refused, and that what is written is read again."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from corral.errors import InvalidRequest
from corral.modelfile import Command, decode, definition_of, read_modelfile, write_modelfile
from corral.modelfile.language import COMMANDS, ROLES

NO_COMMAND = (
    'command must be one of "from", "license", "template", "system", "adapter", "draft", "renderer", "parser", '
    '"parameter", "message", or "requires"'
)


def value(text: str) -> str:
    """The value of the last command of a Modelfile."""
    return read_modelfile(f"FROM x\n{text}")[-1].value


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("SYSTEM hello there", "hello there"),
        ("system \t hello \t ", "hello"),
        ('SYSTEM "hello\nthere"', "hello\nthere"),
        ('SYSTEM "hello" ', "hello"),
        ('SYSTEM """hello"""', "hello"),
        ('SYSTEM """\nhello "you"\n"""\n', '\nhello "you"\n'),
        ('SYSTEM """\r\nhello\r\n"""\r\nPARSER x', "x"),
        ('SYSTEM """a\r\nb"""', "a\r\nb"),
        ('SYSTEM "abc" def\nghi"', 'abc" def\nghi'),
        ('SYSTEM """"quoted""""', '"quoted"'),
        ("SYSTEM 'single'", "'single'"),
        ('SYSTEM say "hi"', 'say "hi"'),
        ("SYSTEM a # no comment", "a # no comment"),
        ("SYSTEM \n", ""),
        ('SYSTEM ""', ""),
        ("SYSTEM a\\n", "a\\n"),
        ("SYSTEM a\rPARSER b", "b"),
        ("  \n\t # a comment\n  SYSTEM x", "x"),
        ("SYSTEM \U0001f468\u200d\U0001f469 a\u00a0b\u200b\u0007", "\U0001f468\u200d\U0001f469 a\u00a0b\u200b\u0007"),
        ("SYSTEM \u00a0x\u00a0", "\u00a0x\u00a0"),
    ],
)  # fmt: skip
def test_a_value_is_what_stands_there(written: str, meant: str) -> None:
    assert value(written) == meant


def test_every_command_is_known_in_any_case() -> None:
    text = "fRoM m\n" + "".join(
        f"{name.title()} x\n" for name in COMMANDS if name not in ("from", "message", "parameter")
    )
    assert [command.name for command in read_modelfile(text)] == [
        name for name in COMMANDS if name not in ("message", "parameter")
    ]
    assert read_modelfile("FROM m\nPARAMETER  Top_k\t5\nMESSAGE user  hi")[1:] == (
        Command("parameter", "5", "Top_k"),
        Command("message", "hi", "user"),
    )


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("FROM tiny\nNOSUCH x\n", f"(line 2): {NO_COMMAND}"),
        ("NOSUCH x\nFROM tiny\n", f"(line 1): {NO_COMMAND}"),
        ("FROM\n", f"(line 2): {NO_COMMAND}"),
        ("FROM tiny\r\n\r\nNOSUCH x\r\n", f"(line 3): {NO_COMMAND}"),
        ("FROM tiny\r\rNOSUCH x", f"(line 3): {NO_COMMAND}"),
        ('FROM tiny\nSYSTEM """a\nb\n"""\nFR0M x', f"(line 5): {NO_COMMAND}"),
        ("FROM tiny\nMESSAGE robot hi\n", '(line 2): message role must be one of "system", "user", or "assistant"'),
        ("FROM tiny\nMESSAGE User hi\n", '(line 2): message role must be one of "system", "user", or "assistant"'),
        ("FROM tiny\nPARAMETER temperature\n", "unexpected EOF: temperature"),
        ("FROM tiny\nPARAMETER top-k 1\n", "unexpected EOF: top"),
        ("FROM tiny\nMESSAGE user\n", "unexpected EOF: user"),
        ('FROM tiny\nSYSTEM """abc\n', "unexpected EOF"),
        ('FROM tiny\nSYSTEM "abc', "unexpected EOF"),
        ("FROM tiny\nSYS", "unexpected EOF"),
        ("PARAMETER temperature 0\n", "no FROM line"),
        ("", "no FROM line"),
        ("# FROM tiny", "no FROM line"),
    ],
)
def test_what_is_no_modelfile_is_refused_in_ollamas_words(text: str, error: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_modelfile(text)
    assert str(caught.value) == error


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_byte_order_mark_says_how_a_file_is_written(encoding: str) -> None:
    assert decode("FROM tïny".encode(encoding)) == "FROM tïny"


def test_a_byte_that_is_no_text_is_replaced() -> None:
    assert decode(b"FROM t\xffny") == "FROM t\ufffdny"
    assert decode(b"\xfe\xff\x00F\x00R\x00O\x00M\x00 \x00t\x00") == "FROM t\ufffd"


PIECES = ['"', '""', '"""', '""""', "\n", "\r\n", "\r", " ", "\t", "a", "FROM x", "#", "\u200d", "\u00a0", "\u2028", "\0", "é",
          "# corral: the next value stands between 5 quotes"]  # fmt: skip


def random_value(dice: random.Random) -> str:
    return "".join(dice.choices(PIECES, k=dice.randrange(8)))


def random_command(dice: random.Random) -> Command:
    name = dice.choice(COMMANDS)
    key = {"parameter": "stop", "message": dice.choice(ROLES)}.get(name, "")
    return Command(name, random_value(dice), key)


def test_what_is_written_is_read_as_the_same_commands() -> None:
    dice = random.Random(1)
    for _ in range(5000):
        commands = (Command("from", random_value(dice)), *(random_command(dice) for _ in range(dice.randrange(4))))
        assert read_modelfile(write_modelfile(commands)) == commands


@pytest.mark.parametrize(
    ("meant", "written"),
    [
        ("one\ntwo", '"one\ntwo"'),
        ('one\n"two"', '"""one\n"two""""'),
        (" a", '" a"'),
        ('say "hi"', 'say "hi"'),
        ('a """\nb', '# corral: the next value stands between 4 quotes\nSYSTEM """"a """\nb""""'),
    ],
)
def test_a_value_has_the_quotes_it_needs_and_no_more(meant: str, written: str) -> None:
    text = write_modelfile([Command("system", meant)])
    assert text == (written if written.startswith("#") else f"SYSTEM {written}") + "\n"


@pytest.mark.parametrize(
    "command", [Command("parameter", "1", "a\nFROM /secret"), Command("message", "x", "user\nFROM")]
)
def test_a_name_that_is_none_smuggles_no_line_in(command: Command) -> None:
    assert write_modelfile([Command("from", "tiny"), command]) == "FROM tiny\n"


def test_mutated_modelfiles_are_read_or_refused() -> None:
    good = (
        '# a comment\r\nFROM ./model.gguf\nTEMPLATE """{{ .System }}\n"x"\n"""\nPARAMETER stop "a b"\nPARAMETER top_k 5\n'
        "MESSAGE user hi\nLICENSE MIT\nREQUIRES 0.14.0\n"
    )
    dice = random.Random(2)
    read = 0
    for _ in range(2000):
        text = list(good)
        for _ in range(dice.randrange(1, 6)):
            at = dice.randrange(len(text))
            text[at : at + dice.randrange(4)] = dice.choice([*PIECES, ""])
        try:
            commands = read_modelfile(decode("".join(text).encode()))
        except InvalidRequest:
            continue
        read += 1
        assert read_modelfile(write_modelfile(commands)) == commands
    assert 200 < read < 1900


def test_a_long_value_of_many_lines_takes_no_long_time() -> None:
    for line in ("x\n", '"\n', '""\n', " \n", '"""x\n'):
        body = line * 50_000
        with_end = f'FROM x\nSYSTEM """{body}"""'
        assert len(read_modelfile(with_end)[-1].value) >= len(body) - 3
    assert len(read_modelfile("FROM x\n" + "PARAMETER stop a\n" * 50_000)) == 50_001


def test_values_of_parameters_have_the_types_of_the_table() -> None:
    text = (
        "FROM a\nFROM b\nPARAMETER num_ctx 1\nPARAMETER num_ctx 4096\nPARAMETER temperature 1e-1\nPARAMETER use_mmap T\n"
        'PARAMETER stop a\nPARAMETER stop "b "\nPARAMETER mirostat 2\nPARAMETER low_vram true\nLICENSE x\nLICENSE y\n'
        "SYSTEM one\nSYSTEM two\n"
        "MESSAGE user q\nMESSAGE assistant a\nREQUIRES v0.14.0\nADAPTER l\nDRAFT d\nRENDERER r\nPARSER p\nTEMPLATE t"
    )
    definition = definition_of(read_modelfile(text))
    assert definition.sources == ("a", "b")
    assert definition.parameters == {
        "num_ctx": 4096,
        "temperature": 0.1,
        "use_mmap": True,
        "stop": ["a", "b "],
        "mirostat": 2,
    }
    assert definition.without_effect == ("low_vram",)
    assert definition.licenses == ("x", "y")
    assert (definition.system, definition.requires, definition.adapters) == ("two", "0.14.0", ("l",))
    assert (definition.draft, definition.renderer, definition.parser, definition.template) == ("d", "r", "p", "t")
    assert definition.messages == (("user", "q"), ("assistant", "a"))


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("PARAMETER nosuch 1", "unknown parameter 'nosuch'"),
        ("PARAMETER Temperature 1", "unknown parameter 'Temperature'"),
        ("PARAMETER temperature hot", "invalid float value [hot]"),
        ("PARAMETER temperature 1_0", "invalid float value [1_0]"),
        ("PARAMETER temperature nan", "invalid float value [nan]"),
        ("PARAMETER num_ctx 1.5", "invalid int value [1.5]"),
        ("PARAMETER use_mmap yes", "invalid bool value [yes]"),
        ("REQUIRES new", "requires must be a valid semver (e.g. 0.14.0)"),
        ("REQUIRES 0.14.0.1", "requires must be a valid semver (e.g. 0.14.0)"),
    ],
)
def test_a_value_of_a_wrong_type_is_refused(line: str, error: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        definition_of(read_modelfile(f"FROM tiny\n{line}"))
    assert str(caught.value) == error


def test_the_examples_in_the_docstrings_hold() -> None:
    import doctest

    from corral import parameters
    from corral.modelfile import definition, reading, writing

    for module in (parameters, definition, reading, writing):
        assert doctest.testmod(module).failed == 0, Path(str(module.__file__)).name
