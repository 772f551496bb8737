"""Tiny, the chat model in the box: 4.5 million parameters that show that everything works, offline.

How it was made is in ``recipes/tiny``.
"""

from __future__ import annotations

from pathlib import Path

TINY_NAME = "tiny:latest"
TINY_FILE = Path(__file__).with_name("tiny-q8_0.gguf")
TINY_LICENSE = Path(__file__).with_name("LICENSE")
