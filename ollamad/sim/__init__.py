"""A simulated Ollama: its API, its store on disk and its scheduler's habits, with tokens that are known beforehand."""
