"""What lives as long as the server, opened once and handed to every route."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request

from corral.config import Settings
from corral.library import Library
from corral.registry import PullThrough, Transfers
from corral.runtime.pool import EnginePool
from corral.runtime.session import Sessions
from corral.server.asked import Requests
from corral.server.background import Background
from corral.server.batching import Batches
from corral.server.filing import Files
from corral.server.inflight import Inflight
from corral.server.preload import Preload
from corral.server.remembered import Remembered
from corral.server.remote_images import RemoteImages


@dataclass(frozen=True, slots=True)
class State:
    """The parts of a running server."""

    settings: Settings
    library: Library
    transfers: Transfers
    through: PullThrough
    pool: EnginePool
    sessions: Sessions
    inflight: Inflight
    requests: Requests
    preload: Preload
    remote_images: RemoteImages
    responses: Remembered | None
    background: Background
    files: Files
    batches: Batches

    @classmethod
    def of(cls, request: Request) -> State:
        """The state of the server that received ``request``."""
        state: State = request.app.state.corral
        return state
