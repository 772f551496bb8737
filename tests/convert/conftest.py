"""Converting folders, and engines that show what came out."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from corral.convert import Progress, convert_model
from corral.convert.files import Folder
from corral.convert.model import plan_model
from corral.engine.base import EngineConfig
from corral.engine.process import run_engine


def files_in(folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}


async def converted(folder: Path, target: Path) -> Path:
    """``target``, once the model in ``folder`` is in it."""
    steps = [step async for step in convert_model(files_in(folder), target, name="test")]
    assert steps[-1] == Progress("converting model", steps[-1].total, steps[-1].total)
    return target


def converted_here(folder: Path, target: Path) -> Path:
    """The same in this process, where a test is about what is written and not about how."""
    plan = plan_model(Folder(files_in(folder)), "test")
    assert list(plan.write(target))[-1] == plan.size_bytes
    return target


@asynccontextmanager
async def running(config: EngineConfig, log: Path) -> AsyncGenerator[httpx.AsyncClient, None]:
    """An engine's own HTTP, where a test can ask for more than Corral ever does."""
    async with run_engine(config, log=log) as process:
        headers = {"Authorization": f"Bearer {process.key}"}
        url = f"http://127.0.0.1:{process.port}"
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as client:
            yield client
