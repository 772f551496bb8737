"""Dialects whose routes are being written: the tests of their clients are collected as soon as the app has them."""

from __future__ import annotations

from corral.server.app import ROUTES

_NEEDED = {"openai": "/v1/chat/completions", "responses": "/v1/responses", "anthropic": "/v1/messages"}
_THERE = {path for _, path, _ in ROUTES}


def there(*clients: str) -> list[str]:
    """Those whose route the app has, or that need none of these."""
    return [client for client in clients if _NEEDED.get(client, "/api/chat") in _THERE]
