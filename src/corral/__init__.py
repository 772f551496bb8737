"""Corral: pull, run and serve open language models on the hardware at hand."""

__version__ = "0.1.0"
