"""Images, from the bytes of a request to the tokens of the engine, by both kinds of templates."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.conftest import RunningServer
from tests.projectors import IMAGE_TOKENS
from tests.server.media.conftest import GREEDY, Ask
from tests.server.media.samples import BLUE, GREEN, RED, base64_of, coloured, file_of

EXPECTED = "not an image this model can read: expected PNG, JPEG, WebP or GIF; got "
both_templates = pytest.mark.parametrize("model", ["sees", "sees-go"])


@both_templates
def test_what_a_model_says_depends_on_the_image(chat: Ask, model: str) -> None:
    without, red, blue = chat(model), chat(model, images=[RED]), chat(model, images=[BLUE])
    assert red.prompt_tokens >= without.prompt_tokens + IMAGE_TOKENS
    assert red.prompt_tokens == blue.prompt_tokens
    assert red.said != without.said
    assert red.said != blue.said
    assert chat(model, images=[RED]).said == red.said


@both_templates
def test_a_prompt_sees_as_a_chat_does(chat: Ask, generate: Ask, model: str) -> None:
    for images in ([RED], [BLUE, RED]):
        assert generate(model, images=images).said == chat(model, images=images).said


@both_templates
def test_several_images_keep_their_order(chat: Ask, model: str) -> None:
    one = chat(model, images=[RED]).prompt_tokens - chat(model).prompt_tokens
    there, back = chat(model, images=[RED, BLUE]), chat(model, images=[BLUE, RED])
    assert there.said != back.said
    assert 0 <= there.prompt_tokens - chat(model, images=[RED]).prompt_tokens - one <= 2


@both_templates
def test_images_of_earlier_turns_are_seen(chat: Ask, model: str) -> None:
    def turns(first: str, second: str) -> Any:
        return chat(
            model,
            messages=[
                {"role": "user", "content": "Look", "images": [first]},
                {"role": "assistant", "content": "Yes."},
                {"role": "user", "content": "And this?", "images": [second]},
            ],
        )

    answers = [turns(RED, GREEN), turns(BLUE, GREEN), turns(GREEN, RED)]
    assert len({str(answer.said) for answer in answers}) == 3


@both_templates
def test_tokens_are_counted_with_the_images(server: RunningServer, chat: Ask, model: str) -> None:
    for images in ([], [RED], [RED, BLUE]):
        blocks = [
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}} for data in images
        ]
        messages = [{"role": "user", "content": [*blocks, {"type": "text", "text": "Hello"}]}]
        body = {"model": model, "messages": messages}
        counted = httpx.post(f"{server.url}/v1/messages/count_tokens", json=body, timeout=60).json()
        assert counted == {"input_tokens": chat(model, images=images).prompt_tokens}
    messages[0]["content"][0]["source"]["data"] = base64_of(b"no image")
    refused = httpx.post(f"{server.url}/v1/messages/count_tokens", json=body, timeout=60)
    assert refused.status_code == 400
    assert EXPECTED in refused.json()["error"]["message"]


@both_templates
def test_a_raw_prompt_has_its_images_where_it_says_or_before_it(generate: Ask, model: str) -> None:
    there = generate(model, "[img-0]Hello", raw=True, images=[RED])
    assert generate(model, "Hello", raw=True, images=[RED]).said == there.said
    assert generate(model, "Hello", raw=True, images=[BLUE]).said != there.said
    assert generate(model, "Hello[img-0]", raw=True, images=[RED]).said != there.said


@both_templates
def test_a_prompt_after_a_context_sees(generate: Ask, model: str) -> None:
    context = generate(model).body["context"]
    red, blue = (generate(model, context=context, images=[image]) for image in (RED, BLUE))
    assert red.said != blue.said


@both_templates
def test_a_format_and_the_beginning_of_an_answer_go_with_images(chat: Ask, model: str) -> None:
    def begun(image: str, **fields: Any) -> Any:
        messages = [
            {"role": "user", "content": "Look", "images": [image]},
            {"role": "assistant", "content": "{"},
        ]
        return chat(model, messages=messages, **fields)

    assert begun(RED, format="json").said != begun(BLUE, format="json").said
    assert chat(model, images=[RED], format="json").prompt_tokens == chat(model, images=[RED]).prompt_tokens


def test_a_stream_sees_too(server: RunningServer, chat: Ask) -> None:
    body = {
        "model": "sees",
        "messages": [{"role": "user", "content": "Hello", "images": [RED]}],
        "options": GREEDY,
    }
    lines = httpx.post(f"{server.url}/api/chat", json=body, timeout=60).text.splitlines()
    assert f'"prompt_eval_count":{chat("sees", images=[RED]).prompt_tokens}' in lines[-1]


def test_show_says_that_a_model_sees_and_by_what(server: RunningServer) -> None:
    show = server.client.show("sees")
    assert "vision" in show["capabilities"]
    assert "audio" not in show["capabilities"]
    assert show["projector_info"]["clip.projector_type"] == "gemma3"
    listed = {model["name"]: model for model in server.client.tags()}
    assert "vision" in listed["sees:latest"]["capabilities"]
    assert "vision" not in listed["hears:latest"]["capabilities"]


@both_templates
def test_a_rendered_prompt_shows_where_images_go(server: RunningServer, model: str) -> None:
    messages = [{"role": "user", "content": "Look", "images": [RED, BLUE]}]
    body = {"model": model, "messages": messages, "_debug_render_only": True}
    info = httpx.post(f"{server.url}/api/chat", json=body, timeout=60).json()["_debug_info"]
    assert info["image_count"] == 2
    assert info["rendered_template"].index("[img-0]") < info["rendered_template"].index("[img-1]")


@pytest.mark.parametrize("fields", [{}, {"raw": True}, {"template": "{{ .Prompt }}"}])
def test_a_model_without_a_projector_says_so(chat: Ask, generate: Ask, fields: dict[str, Any]) -> None:
    for answer in (chat("tiny", images=[RED]), generate("tiny", images=[RED], **fields)):
        assert (answer.status, answer.error) == (400, '"tiny" does not support images')


# -- formats ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        file_of(coloured("red"), "WEBP", lossless=True),
        file_of(coloured("red").convert("P"), "GIF"),
        file_of(coloured("red"), "GIF", save_all=True, append_images=[coloured("blue")]),
        file_of(coloured((255, 0, 0, 255), mode="RGBA")),
        file_of(coloured("red"), "WEBP", lossless=True, save_all=True, append_images=[coloured("blue")]),
    ],
    ids=["webp", "gif", "moving gif", "rgba", "moving webp"],
)
def test_one_picture_is_one_in_every_format(chat: Ask, data: bytes) -> None:
    assert chat("sees", images=[base64_of(data)]).said == chat("sees", images=[RED]).said


def test_a_photo_is_seen_upright(chat: Ask) -> None:
    upright = Image.new("RGB", (64, 64), "white")
    upright.paste("black", (0, 0, 64, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: upright is a quarter turn clockwise from how it lies in the file
    lying = file_of(upright.transpose(Image.Transpose.ROTATE_90), exif=exif)
    assert chat("sees", images=[base64_of(lying)]).said == chat("sees", images=[base64_of(file_of(upright))]).said


def test_what_is_transparent_is_white(chat: Ask) -> None:
    clear = file_of(coloured((0, 0, 0, 0), mode="RGBA"))
    white = file_of(coloured("white"))
    assert chat("sees", images=[base64_of(clear)]).said == chat("sees", images=[base64_of(white)]).said


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, data: bytes) -> bytes:
    """A PNG of RGB that claims this size."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(data, 9)) + chunk(b"IEND", b"")


WHOLE = file_of(coloured("red", (200, 200)))


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", EXPECTED + "nothing"),
        (b"hello", EXPECTED + "text"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", EXPECTED + "an SVG drawing"),
        (b"<?xml version='1.0'?><svg/>", EXPECTED + "an SVG drawing"),
        (b"<!DOCTYPE html><p>404", EXPECTED + "an HTML page"),
        (b"%PDF-1.7", EXPECTED + "a PDF document"),
        (file_of(coloured("red"), "BMP"), EXPECTED + "a BMP image"),
        (b"\0\0\0\x18ftypmp42" + bytes(64), EXPECTED + "an MP4 file"),
        (b"\x1aE\xdf\xa3" + bytes(64), EXPECTED + "a WebM or Matroska film"),
        (bytes(range(1, 99)), EXPECTED + "bytes of no known format"),
        (WHOLE[:8], "the PNG image cannot be read: it is damaged"),
        (WHOLE[: len(WHOLE) // 2], "the PNG image cannot be read: it is damaged"),
        (WHOLE[:100] + b"\xa5" * 20 + WHOLE[120:], "the PNG image cannot be read: it is damaged"),
        (file_of(coloured("red", (300, 300)), "JPEG")[:400], "the JPEG image cannot be read: it is damaged"),
        (file_of(coloured("red", (300, 300)), "WEBP")[:60], "the WebP image cannot be read: it is damaged"),
        (png(0, 10, b""), "the PNG image cannot be read: it "),
        (png(1, 1, b""), "the PNG image cannot be read: it is damaged"),
        (png(2**31 - 1, 2**31 - 1, b""), "the PNG image cannot be read: it has 2147483647 x 2147483647 pixels"),
        (png(60_000, 60_000, bytes(10_000)), "the PNG image cannot be read: it has 60000 x 60000 pixels, 3600.0 mega"),
        (b"GIF89a" + struct.pack("<HH", 65535, 65535) + bytes(20), "the GIF image cannot be read: it "),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_what_is_no_image_is_refused_before_the_engine_sees_it(chat: Ask, data: bytes, error: str) -> None:
    answer = chat("sees", images=[base64_of(data)])
    assert (answer.status, answer.error[: len(error)]) == (400, error)


def test_the_image_that_is_wrong_is_named(chat: Ask, generate: Ask) -> None:
    bad = base64_of(b"hello")
    answer = generate("sees", images=[RED, bad])
    assert answer.error == f"image 2 of 2: {EXPECTED}text"
    turns = [
        {"role": "user", "content": "a", "images": [RED]},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c", "images": [bad, RED]},
    ]
    assert chat("sees", messages=turns).error == f"image 2 of 3: {EXPECTED}text"


def test_the_engine_lives_on_after_all_of_it(server: RunningServer, chat: Ask) -> None:
    """Some mutants are images still and reach the engine, others are refused; none harms it."""
    whole = bytearray(file_of(coloured("red", (64, 64)), "JPEG"))
    before = chat("sees", images=[RED]).said
    statuses = set()
    for at in range(20, len(whole), max(1, len(whole) // 25)):
        mutant = bytes(whole[:at]) + bytes([whole[at] ^ 0xFF]) + bytes(whole[at + 1 :])
        statuses.add(chat("sees", images=[base64_of(mutant)], options={**GREEDY, "num_predict": 1}).status)
    assert statuses <= {200, 400}
    assert chat("sees", images=[RED]).said == before
    assert "ended unexpectedly" not in server.log()


# -- limits -------------------------------------------------------------------------------------------------------


def test_a_large_image_is_seen(chat: Ask) -> None:
    large = base64_of(file_of(coloured("red", (6000, 4500))))
    assert chat("sees", images=[large]).said == chat("sees", images=[RED]).said


@both_templates
def test_images_that_do_not_fit_are_an_error_with_the_numbers(chat: Ask, model: str) -> None:
    answer = chat(model, images=[RED, BLUE] * 40, options={**GREEDY, "num_ctx": 256})
    assert answer.status == 400
    assert "which is longer than the context length of 256 tokens" in answer.error


@both_templates
def test_turns_with_images_are_left_out_whole_and_counted(chat: Ask, model: str) -> None:
    turn = [{"role": "user", "content": "Look", "images": [RED]}, {"role": "assistant", "content": "Yes."}]
    last = {"role": "user", "content": "Hello", "images": [BLUE]}
    answer = chat(model, messages=[*turn * 12, last], options={**GREEDY, "num_ctx": 200})
    dropped = answer.body["dropped_messages"]
    assert 0 < dropped < 24
    assert answer.prompt_tokens < 200
    kept = chat(model, messages=[*turn * 12, last][dropped:])
    (tokens, chances), (kept_tokens, kept_chances) = zip(*answer.said, strict=True), zip(*kept.said, strict=True)
    assert tokens == kept_tokens
    assert chances == pytest.approx(kept_chances, abs=0.05)  # read in other pieces, as some of it was in memory
    assert answer.prompt_tokens == kept.prompt_tokens
    refused = chat(model, messages=[*turn * 12, last], options={**GREEDY, "num_ctx": 200}, truncate=False)
    assert refused.status == 400


def test_images_have_no_place_in_a_suffix(generate: Ask) -> None:
    answer = generate("sees", images=[RED], template="{{ .Prompt }}{{ .Suffix }}", suffix="x")
    assert answer.status == 400


def test_a_jpeg_stays_small(chat: Ask) -> None:
    noise = Image.effect_noise((800, 600), 40).convert("RGB")
    file = io.BytesIO()
    noise.save(file, "JPEG")
    assert chat("sees", images=[base64_of(file.getvalue())]).status == 200
