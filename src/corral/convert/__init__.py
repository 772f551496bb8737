"""From published weights (safetensors and the files beside them) to GGUF, in a child process."""

from corral.convert.start import Progress, convert_adapter, convert_model

__all__ = ["Progress", "convert_adapter", "convert_model"]
