"""Images behind links: off unless allowed, only from where they may come, and nothing but images."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import Request

from corral.config import load_settings
from corral.dialects.media import image, links
from corral.errors import InvalidRequest
from corral.server.inflight import Inflight
from corral.server.media import fetched
from corral.server.remote_images import MOST_LINKS, RemoteImages
from tests.server.media.samples import coloured, file_of

pytestmark = pytest.mark.anyio

RED = file_of(coloured("red"))


class Site:
    """What a web server has, by path: a status, headers and a body. It remembers what it was asked for."""

    def __init__(self) -> None:
        self.pages: dict[str, tuple[int, dict[str, str], bytes]] = {
            "/red.png": (200, {"Content-Type": "image/png"}, RED)
        }
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.url = ""


@pytest.fixture
def site() -> Iterator[Site]:
    with served() as found:
        yield found


@contextmanager
def served() -> Iterator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append(self.path)
            site.headers.append(dict(self.headers))
            status, headers, body = site.pages.get(self.path, (404, {}, b"no"))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@asynccontextmanager
async def request(**settings: Any) -> AsyncIterator[Request]:
    """A request to a server with these settings."""
    async with RemoteImages.of(load_settings({"CORRAL_CONFIG": "/nonexistent"}, **settings)) as images:
        state = SimpleNamespace(remote_images=images, inflight=Inflight())
        app = SimpleNamespace(state=SimpleNamespace(corral=state))

        async def receive() -> Any:
            import anyio

            await anyio.sleep_forever()

        yield Request({"type": "http", "app": app}, receive)


def part(url: str) -> dict[str, object]:
    return {"type": "image_url", "image_url": {"url": url}}


def body(*urls: str) -> object:
    return {"messages": [{"role": "user", "content": [part(url) for url in urls]}]}


async def test_an_image_is_fetched_and_decoded_as_if_it_had_been_sent(site: Site) -> None:
    link = f"{site.url}/red.png"
    async with request(fetch_images="networks") as asking:
        found = await fetched(asking, body(link, link))
    assert image(link, found) == RED
    assert site.asked == ["/red.png"]
    assert not {"Cookie", "Authorization", "Referer"} & set(site.headers[0])


async def test_nothing_is_fetched_unless_the_owner_allows_it(site: Site) -> None:
    link = f"{site.url}/red.png"
    async with request() as asking:
        found = await fetched(asking, body(link))
    with pytest.raises(InvalidRequest, match=r"^image URLs are not currently supported, .* CORRAL_FETCH_IMAGES=1"):
        image(link, found)
    assert site.asked == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "2130706433", "127.1"])
async def test_this_machine_is_out_of_reach_of_links(site: Site, host: str) -> None:
    link = site.url.replace("127.0.0.1", host) + "/red.png"
    async with request(fetch_images="internet") as asking:
        with pytest.raises(InvalidRequest, match="cannot be fetched"):
            await fetched(asking, body(link))
    assert site.asked == []


@pytest.mark.parametrize("link", ["http://169.254.169.254/latest", "http://100.100.100.200/", "http://[fe80::1]/"])
async def test_what_is_link_local_is_never_in_reach(link: str) -> None:
    async with request(fetch_images="networks") as asking:
        with pytest.raises(InvalidRequest, match="link-local"):
            await fetched(asking, body(link))


async def test_a_redirect_is_checked_as_the_link_was(site: Site) -> None:
    site.pages["/there"] = (302, {"Location": "/red.png"}, b"")
    site.pages["/away"] = (302, {"Location": "http://169.254.169.254/secret"}, b"")
    site.pages["/file"] = (302, {"Location": "file:///etc/passwd"}, b"")
    site.pages["/round"] = (302, {"Location": "/round"}, b"")
    async with request(fetch_images="networks") as asking:
        assert await fetched(asking, body(f"{site.url}/there")) == {f"{site.url}/there": RED}
        for path, why in (("/away", "link-local"), ("/file", "no web address"), ("/round", "redirected more than 5")):
            with pytest.raises(InvalidRequest, match=why):
                await fetched(asking, body(site.url + path))
    assert site.asked.count("/round") == 6


async def test_what_is_no_image_is_not_handed_on(site: Site) -> None:
    site.pages["/page"] = (200, {"Content-Type": "text/html"}, b"<html>secret")
    site.pages["/wrong"] = (200, {"Content-Type": "image/png"}, b"secret")
    async with request(fetch_images="networks") as asking:
        for path, what in (("/page", 'an HTML page, sent as "text/html"'), ("/wrong", "text"), ("/gone", "status 404")):
            with pytest.raises(InvalidRequest, match=what) as caught:
                await fetched(asking, body(site.url + path, f"{site.url}/red.png"))
            assert "secret" not in str(caught.value)


async def test_an_image_that_is_too_large_is_not_read_to_its_end(site: Site) -> None:
    site.pages["/large"] = (200, {"Content-Length": str(1 << 40)}, RED)
    site.pages["/long"] = (200, {}, RED + bytes(2_000_000))
    async with request(fetch_images="networks", image_max_bytes=1_000_000) as asking:
        with pytest.raises(InvalidRequest, match="has 1099511627776 bytes, where 1000000 are allowed"):
            await fetched(asking, body(f"{site.url}/large"))
        with pytest.raises(InvalidRequest, match="sends more than 1000000 bytes"):
            await fetched(asking, body(f"{site.url}/long"))


async def test_a_request_has_only_so_many_links(site: Site) -> None:
    async with request(fetch_images="networks") as asking:
        with pytest.raises(InvalidRequest, match=f"links to {MOST_LINKS + 1} images, where {MOST_LINKS}"):
            await fetched(asking, body(*(f"{site.url}/{n}" for n in range(MOST_LINKS + 1))))
    assert site.asked == []


async def test_offline_is_offline(site: Site) -> None:
    async with request(fetch_images="networks", offline=True) as asking:
        with pytest.raises(InvalidRequest, match="stay offline"):
            await fetched(asking, body(f"{site.url}/red.png"))
    assert site.asked == []


def test_links_are_looked_for_where_images_stand_and_nowhere_else() -> None:
    chat = [part("http://a/1"), {"type": "image_url", "image_url": "HTTPS://a/2"}, part("data:image/png;base64,")]
    response = [{"type": "input_image", "image_url": "http://a/3"}]
    message = [
        {"type": "image", "source": {"type": "url", "url": "http://a/4"}},
        {"type": "tool_result", "content": [{"type": "image", "source": {"type": "url", "url": "http://a/5"}}]},
        {"type": "tool_use", "input": {"url": "http://a/x", "image_url": "http://a/y"}},
        {"type": "text", "text": "http://a/z"},
    ]
    assert list(links([chat, response, message])) == [
        "http://a/1",
        "HTTPS://a/2",
        *(f"http://a/{n}" for n in (3, 4, 5)),
    ]


def test_a_body_that_is_nested_deeply_is_searched_all_the_same() -> None:
    nested: object = part("http://a/1")
    for _ in range(100_000):
        nested = [nested]
    assert list(links(nested)) == ["http://a/1"]
    del nested
