"""`ollamactl`: a thin client of the control socket. It imports nothing that is slow to import."""
