"""Bodies of requests, good and bad, for Go's decoder and for Corral's.

``python -m tests.dialects.bodies`` asks Go again and rewrites ``golden/answers.json``.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).with_name("golden")

_VALUES = ["null", "true", "7", "-7", "1.5", "1e2", "1e400", "9223372036854775807", "9223372036854775808", '"x"', '""',
           "[]", "[1]", '["x"]', "[null]", "{}", '{"a":1}', "[[]]", "[{}]", "[true]"]  # fmt: skip
_FIELDS = ["text", "flag", "number", "numbers", "options", "bytes", "messages", "inner"]

BODIES: tuple[bytes, ...] = (
    *(f'{{"{field}":{value}}}'.encode() for field in _FIELDS for value in _VALUES),
    # what is no object, or no JSON
    *(value.encode() for value in _VALUES),
    b'{"text"', b'{"text":', b'{"text":"', b'{"text":"x"', b'{"text":"x",', b'{"text":"x",}', b'{text:1}', b"{'text':1}",
    b'{"text":"x" "flag":true}', b'{"numbers":[1,]}', b'{"numbers":[1 2]}', b'{"numbers":[,1]}', b'{"flag":tru}',
    b'{"flag":True}', b'{"flag":nul}', b'{"number":01}', b'{"number":-}', b'{"number":1.}', b'{"number":1e}',
    b'{"number":+1}', b'{"number":.5}', b'{"number":NaN}', b'{"number":Infinity}', b'{"number":0x10}', b"}", b"]", b":",
    b"x", b"\x00", b"\xff", b"\xef\xbb\xbf{}", b'{"text":"a\nb"}', b'{"text":"\t"}', b'{"text":"\x7f"}',
    b'{"text":"\\x"}', b'{"text":"\\u12"}', b'{"text":"\\u12g4"}', b'{"text":"\\', b"{,}", b'{"a":1}}', b"[1]]", b'{"a"}',
    b'{"a":}', b'{1:2}', b'{"text":"x"}\xe4', b"<html>", b"model=tiny&prompt=x", b'{"text":\xc3\xa9}', b'{"flag":t\xc3}',
    # text
    b'{"text":"\\ud83d\\ude00"}', b'{"text":"\\ud83d"}', b'{"text":"\\ude00"}', b'{"text":"\\ud83dx"}',
    b'{"text":"\\ud83d\\u0041"}', b'{"text":"\xff"}', b'{"text":"\xc3\x28"}', b'{"text":"\xe2\x82"}',
    b'{"text":"\\u0000\\u2028\\/\\b\\f"}', '{"text":"Grüße 🐎"}'.encode(), b'{"text":"<&>"}', b'{"text":"\xed\xa0\x80"}',
    # names
    b'{"TEXT":"x"}', b'{"Text":"x","text":"y"}', b'{"text":"y","Text":"x"}', b'{"text":"a","text":"b"}', b'{"tex\\u0074":"x"}',
    b'{"text":"a","text":null}', b'{"unknown":{"deep":[1,2,{"x":null}]},"text":"x"}', b'{"":1}', b'{"te xt":"x"}',
    b'{"INNER":{"ROLE":"r"}}', b'{"messages":[{"Role":"r","CONTENT":"c"},{"role":"s"}]}', '{"teẍt":"x"}'.encode(),
    # depth in the error
    b'{"messages":[{"role":1}]}', b'{"messages":[{"role":"a"},{"content":[]}]}', b'{"inner":{"content":{}}}',
    b'{"inner":{"role":false}}', b'{"numbers":[1,"2",3]}', b'{"numbers":[1.5]}', b'{"numbers":[1e400]}',
    b'{"number":1.0}', b'{"number":-9223372036854775808}', b'{"number":-9223372036854775809}', b'{"number":123456789.25}',
    b'{"number":12345678901234567890123}', b'{"number":0.1e1}', b'{"number":1E5}', b'{"number":100000000000000000000.5}',
    # base64
    b'{"bytes":["aGk="]}', b'{"bytes":["aGk"]}', b'{"bytes":["aG k="]}', b'{"bytes":["aGk=\\n"]}', b'{"bytes":["a_-b"]}',
    b'{"bytes":["===="]}', b'{"bytes":["a"]}', b'{"bytes":["aGk=aGk="]}', b'{"bytes":[""]}', b'{"bytes":[1]}',
    # what comes first counts
    b'{"text":"x"}{"text":"y"}', b'{"text":"x"} trailing', b' \r\n\t{"text":"x"}', b'{"text":1,"flag":1}',
    b'{"flag":1,"text":1}', b'{"text":1,"flag"', b'{"numbers":["a","b"],"text":"x"}',
)  # fmt: skip


def ask_go(go: str) -> list[dict[str, Any]]:
    """What Go makes of each body."""
    asked = json.dumps([base64.b64encode(body).decode() for body in BODIES])
    command = [go, "run", str(GOLDEN / "main.go")]
    done = subprocess.run(command, input=asked, capture_output=True, text=True, check=True)
    results: list[dict[str, Any]] = json.loads(done.stdout)
    return results


def find_go() -> str | None:
    return shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")


if __name__ == "__main__":
    go = find_go()
    assert go, "Go is not installed"
    lines = [
        json.dumps({"body": body.decode("latin-1"), **found}) for body, found in zip(BODIES, ask_go(go), strict=True)
    ]
    (GOLDEN / "answers.json").write_text("[\n" + ",\n".join(lines) + "\n]\n")
