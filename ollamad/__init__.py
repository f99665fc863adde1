"""ollamad: one Ollama endpoint over all the GPUs of a host."""

__version__ = "0.1.0"
