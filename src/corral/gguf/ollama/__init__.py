"""Ollama's own dialect of GGUF: telling it, and translating it into what llama.cpp reads."""

from corral.gguf.ollama.families import translation
from corral.gguf.ollama.views import Translation, View, as_translated
from corral.gguf.ollama.writing import view_bytes, write_view

__all__ = ["Translation", "View", "as_translated", "translation", "view_bytes", "write_view"]
