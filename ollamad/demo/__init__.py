"""The demo: ollamad in front of a real Ollama and a real model, on a machine that has neither, nor a GPU."""
