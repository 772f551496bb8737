"""Ollama's own API: ``/api/*``."""
