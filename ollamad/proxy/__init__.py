"""The listener that clients talk to: one Ollama in front of many."""
