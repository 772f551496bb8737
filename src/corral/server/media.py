"""What a request links to, fetched before it is decoded."""

from __future__ import annotations

import orjson
from starlette.requests import Request

from corral.dialects.media import Fetched, links
from corral.server.state import State


async def fetched(request: Request, body: object) -> Fetched:
    """The images that ``body``, the parsed JSON of ``request``, links to, by their links.

    A route asks for them between parsing and decoding, and its decoder has them from `corral.dialects.media.image`:

        body = parse(await request.body())
        wanted = Chat.decode(body, await fetched(request, body))

    Empty where there are no links, and where the owner did not allow to fetch any: then ``image`` refuses the first link. Raises
    `InvalidRequest` for what cannot be fetched or is no image.
    """
    wanted = list(dict.fromkeys(links(body)))
    state = State.of(request)
    if not wanted or state.remote_images.reach is None:
        return {}
    found = await state.inflight.run(request.receive, lambda: state.remote_images.fetch(wanted))
    return found or {}


async def fetched_for(request: Request, body: bytes) -> Fetched:
    """As `fetched`, for a decoder that parses ``body`` itself. What is no JSON links to nothing."""
    if b"http" not in body:
        return {}
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return await fetched(request, parsed)
