"""Prompt templates as Ollama has them: Go's text/template, the data it is given, and what a template tells about a model.

Knows nothing of models, files or HTTP. `template` is the language, `chat` what a conversation is to it, `inspect` what
can be read from a template without running it.
"""
