"""``list``, ``show``, ``cp``, ``rm``, ``ps``, ``stop``: what they print and how they fail."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from tests.cli.conftest import Corral
from tests.cli.fake import RECORDED, Asked, FakeServer, Reply, recorded

TAGS = json.loads(RECORDED["tags"]["response"]["body"])["models"]
LOADED = json.loads(RECORDED["ps_loaded"]["response"]["body"])["models"][0]
ENGINE = {"slots": 8, "slots_in_use": 2, "queue": 3, "pool_tokens": 16384, "pool_in_use": 4096, "pinned": True,
          "lowered": ["pool 32768 to 16384 tokens"]}  # fmt: skip


def models(*documents: dict[str, object]) -> Reply:
    return Reply(json.dumps({"models": documents}))


def test_list_is_a_table_with_ollamas_padding(fake: FakeServer, corral: Corral) -> None:
    then = datetime.now(UTC) - timedelta(days=3)
    fake.say("/api/tags", models(*({**model, "modified_at": then.isoformat()} for model in TAGS)))
    done = corral("list")
    assert done.stdout == (
        "NAME             ID              SIZE      MODIFIED   \n"
        "tinygo:latest    8562baeb4da1    4.8 MB    3 days ago    \n"
        "minilm:latest    3916e706937a    45 MB     3 days ago    \n"
        "tiny:latest      8c6353a13ac3    4.8 MB    3 days ago    \n"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert corral("ls").stdout == done.stdout


def test_an_empty_list_is_its_header(fake: FakeServer, corral: Corral) -> None:
    fake.say("/api/tags", models())
    assert corral("list").stdout == "NAME    ID    SIZE    MODIFIED \n"


@pytest.mark.parametrize(("prefix", "names"), [("TINYG", ["tinygo"]), ("tin", ["tinygo", "tiny"]), ("ny", [])])
def test_list_takes_the_beginning_of_names_in_any_case(corral: Corral, prefix: str, names: list[str]) -> None:
    rows = corral("list", prefix).stdout.splitlines()[1:]
    assert [row.split(":")[0] for row in rows] == names


def test_list_as_json_is_what_the_server_said(corral: Corral) -> None:
    assert json.loads(corral("list", "--json").stdout) == {"models": TAGS}


def test_a_model_that_is_elsewhere_has_no_size_and_a_zero_time_is_never(fake: FakeServer, corral: Corral) -> None:
    fake.say("/api/tags", models({**TAGS[0], "remote_model": "big", "modified_at": "0001-01-01T00:00:00Z"}))
    assert corral("list").stdout.splitlines()[1].split() == ["tinygo:latest", "8562baeb4da1", "-", "Never"]


def test_show_prints_the_sections_of_a_model(corral: Corral) -> None:
    assert corral("show", "tiny").stdout == (
        "  Model\n"
        "    architecture        qwen3    \n"
        "    parameters          4.46M    \n"
        "    context length      2048     \n"
        "    embedding length    256      \n"
        "    quantization        Q8_0     \n"
        "\n"
        "  Capabilities\n"
        "    tools         \n"
        "    thinking      \n"
        "    completion    \n"
        "\n"
    )


def test_show_prints_two_lines_of_a_long_licence(fake: FakeServer, corral: Corral) -> None:
    details = json.loads(RECORDED["show"]["response"]["body"])
    fake.say("/api/show", Reply(json.dumps({**details, "system": "Be kind.", "license": "MIT\n\nCopyright\nMore"})))
    assert corral("show", "tiny").stdout.endswith(
        "  System\n    Be kind.    \n\n  License\n    MIT          \n    Copyright    \n    ...          \n\n"
    )


def test_a_parameter_of_several_lines_does_not_upset_show(fake: FakeServer, corral: Corral) -> None:
    details = json.loads(RECORDED["show"]["response"]["body"])
    fake.say("/api/show", Reply(json.dumps({**details, "parameters": 'stop     "a\nb"\ntop_k    7'})))
    assert '    stop     "a    \n    b"             \n    top_k    7     \n' in corral("show", "tiny").stdout


@pytest.mark.parametrize("part", ["license", "modelfile", "parameters", "template", "system"])
def test_show_prints_one_part_alone(fake: FakeServer, corral: Corral, part: str) -> None:
    fake.say("/api/show", Reply(json.dumps({"details": {}, part: "one\ntwo\n"})))
    assert corral("show", "tiny", f"--{part}").stdout == "one\ntwo\n"


def test_show_refuses_two_parts_before_it_asks_the_server(fake: FakeServer, corral: Corral) -> None:
    done = corral("show", "tiny", "--license", "--template")
    assert (done.returncode, done.stdout, fake.asked) == (2, "", [])
    assert "only one of '--license', '--modelfile', '--parameters', '--system', '--template'" in done.stderr


def test_show_verbose_asks_for_all_and_prints_metadata(fake: FakeServer, corral: Corral) -> None:
    assert "\n  Metadata\n    general.architecture" in corral("show", "-v", "tiny").stdout
    assert fake.bodies("/api/show") == [{"model": "tiny", "verbose": True}]


def test_show_of_an_unknown_model_says_where_to_look(fake: FakeServer, corral: Corral) -> None:
    fake.say("/api/show", recorded("show_unknown_model"))
    done = corral("show", "nope")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Error: model 'nope:latest' not found; try: corral list\n"


def test_cp_says_what_it_did(fake: FakeServer, corral: Corral) -> None:
    assert corral("cp", "tiny", "copy").stdout == "copied 'tiny' to 'copy'\n"
    assert fake.bodies("/api/copy") == [{"source": "tiny", "destination": "copy"}]


def test_rm_stops_at_the_first_error(fake: FakeServer, corral: Corral) -> None:
    fake.say("/api/delete", recorded("delete"), recorded("delete_unknown"))
    done = corral("rm", "a", "nope", "b")
    assert (done.returncode, done.stdout) == (1, "deleted 'a'\n")
    assert done.stderr == "Error: model 'nope' not found\n"
    assert [a for a in fake.asked if a.path == "/api/delete"] == [
        Asked("DELETE", "/api/delete", {"model": "a"}),
        Asked("DELETE", "/api/delete", {"model": "nope"}),
    ]


@pytest.mark.parametrize(
    ("size", "vram", "seconds", "columns"),
    [
        (18_140_363, 0, 3600 * 4, ["18 MB", "100% CPU", "2048", "4 hours from now"]),
        (4_700_000_000, 4_700_000_000, 86400 * 365 * 30, ["4.7 GB", "100% GPU", "2048", "Forever"]),
        (1000, 250, -5, ["1 KB", "75%/25% CPU/GPU", "2048", "Stopping..."]),
    ],
)
def test_ps_says_where_a_model_lies_and_until_when(
    fake: FakeServer, corral: Corral, size: int, vram: int, seconds: int, columns: list[str]
) -> None:
    ends = (datetime.now(UTC) + timedelta(seconds=seconds + 30 * (seconds > 0))).isoformat()
    fake.say("/api/ps", models({**LOADED, "size": size, "size_vram": vram, "expires_at": ends}))
    header, row = corral("ps").stdout.splitlines()
    assert header.split() == ["NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL"]
    assert [cell.strip() for cell in row.split("    ") if cell.strip()] == ["tiny:latest", "8c6353a13ac3", *columns]


def test_stop_unloads_and_prints_nothing(fake: FakeServer, corral: Corral) -> None:
    done = corral("stop", "tiny", "minilm")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [body["model"] for body in fake.bodies("/api/generate")] == ["tiny", "minilm"]


def test_stop_of_an_unknown_model_says_so(fake: FakeServer, corral: Corral) -> None:
    fake.say("/api/generate", recorded("generate_unknown_model"))
    done = corral("stop", "nope")
    assert (done.returncode, done.stderr) == (1, 'Error: couldn\'t find model "nope" to stop\n')


def test_show_tells_what_a_model_sees_and_hears_with(fake: FakeServer, corral: Corral) -> None:
    info = {
        "general.architecture": "clip",
        "general.parameter_count": 420_000_000,
        "clip.vision.embedding_length": 1152,
        "clip.vision.projection_dim": 2560,
    }
    fake.say("/api/show", Reply(json.dumps({"details": {}, "projector_info": info})))
    assert [
        line.split() for line in corral("show", "tiny").stdout.partition("Projector\n")[2].splitlines() if line
    ] == [
        ["architecture", "clip"],
        ["parameters", "420M"],
        ["embedding", "length", "1152"],
        ["dimensions", "2560"],
    ]


def test_ps_of_a_corral_shows_how_busy_engines_are_and_what_was_given_up(fake: FakeServer, corral: Corral) -> None:
    fake.say("/api/ps", models({**LOADED, "engine": ENGINE}))
    done = corral("ps")
    header, row = done.stdout.splitlines()
    assert header.split() == ["NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "SLOTS", "QUEUE", "POOL", "UNTIL"]
    assert row.split()[-6:] == ["2/8", "3", "25%", "of", "16384", "Pinned"]
    assert done.stderr == f"{LOADED['name']}: lowered, because memory ran out: pool 32768 to 16384 tokens\n"
    assert json.loads(corral("ps", "--json").stdout)["models"][0]["engine"] == ENGINE
