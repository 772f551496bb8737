"""Prompt templates as Ollama has them: Go's text/template, the data it is given, and what a template tells about a model.

Knows nothing of models, files or HTTP. `template` is the language, `chat` renders conversations with it, `facts` is
what can be read from a template without running it, `choice` which of a model's templates is used.
"""
