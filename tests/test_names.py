from __future__ import annotations

import pytest

from corral.errors import InvalidDigest, InvalidName, InvalidRequest
from corral.names import Digest, ModelName, ModelReference

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "full", "short"),
    [
        ("tiny", "registry.ollama.ai/library/tiny:latest", "tiny:latest"),
        ("tiny:q4", "registry.ollama.ai/library/tiny:q4", "tiny:q4"),
        ("me/tiny", "registry.ollama.ai/me/tiny:latest", "me/tiny:latest"),
        ("hf.co/me/tiny", "hf.co/me/tiny:latest", "hf.co/me/tiny:latest"),
        (
            "localhost:5000/library/tiny",
            "localhost:5000/library/tiny:latest",
            "localhost:5000/library/tiny:latest",
        ),
        ("http://host:80/a/b:c", "host:80/a/b:c", "host:80/a/b:c"),
        ("Registry.Ollama.AI/Library/Tiny:Latest", "Registry.Ollama.AI/Library/Tiny:Latest", "Tiny:Latest"),
        ("a_b-c.d:1.5b-x", "registry.ollama.ai/library/a_b-c.d:1.5b-x", "a_b-c.d:1.5b-x"),
    ],
)
def test_a_name_is_completed_with_defaults_and_shortened_again(text: str, full: str, short: str) -> None:
    name = ModelName.parse(text)
    assert (str(name), name.short) == (full, short)
    assert ModelName.parse(name.short).key == name.key


@pytest.mark.parametrize(
    "text",
    ["", " ", "/", ":", "a:", ":b", "a/", "/a", "a//b", "a/b/c/d", "..", "../x", "a/../b", "a:../../x", ".a", "-a", "a b",
     "a\x00", "a@sha256:00", "é", "a" * 81, "a.b/c", "h" * 351 + "/a/b", "a\nb", "tiny\n", "C:\\x", "a\\b"],
)  # fmt: skip
def test_what_is_not_a_name_is_refused_before_it_can_become_a_path(text: str) -> None:
    if text == "a.b/c":  # a dot is allowed in a host and a model, not in a namespace
        with pytest.raises(InvalidName, match="namespace"):
            ModelName.parse(text)
        return
    with pytest.raises(InvalidName):
        ModelName.parse(text)


def test_a_path_of_a_manifest_gives_its_name_back() -> None:
    name = ModelName.parse("hf.co/me/mine:q4")
    assert ModelName.from_path(name.path) == name


@pytest.mark.parametrize(
    ("text", "name", "source"),
    [
        ("tiny", "tiny:latest", "any"),
        (" tiny ", "tiny:latest", "any"),
        ("tiny:local", "tiny:latest", "local"),
        ("tiny:q4:LOCAL", "tiny:q4", "local"),
        ("tiny:cloud", "tiny:latest", "cloud"),
        ("tiny:20b-cloud", "tiny:20b", "cloud"),
        ("cloud", "cloud:latest", "any"),
    ],
)
def test_a_reference_tells_where_a_model_is_wanted(text: str, name: str, source: str) -> None:
    reference = ModelReference.parse(text)
    assert (reference.name.short, reference.source) == (name, source)


def test_two_places_at_once_are_refused() -> None:
    with pytest.raises(InvalidRequest, match='use either :local or :cloud, not both: "m:local:cloud"'):
        ModelReference.parse("m:local:cloud")


def test_a_digest_is_read_in_both_spellings_and_kept_in_one() -> None:
    assert Digest.parse(f"sha256:{HEX}") == Digest.parse(f"sha256-{HEX.upper()}") == Digest(HEX)
    assert Digest(HEX).file_name == f"sha256-{HEX}"
    assert str(Digest(HEX)) == f"sha256:{HEX}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        HEX,
        "sha256:",
        f"sha256:{HEX[:-1]}",
        f"sha256:{HEX}0",
        f"sha512:{HEX}",
        f"sha256:../{HEX[3:]}",
        f"sha256:{HEX}\n",
    ],
)
def test_what_is_not_a_digest_is_refused(text: str) -> None:
    with pytest.raises(InvalidDigest, match="invalid digest format"):
        Digest.parse(text)
