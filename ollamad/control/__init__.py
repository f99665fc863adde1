"""The face for operators: HTTP and JSON over a unix socket. What `ollamactl` talks to.

Start reading at `endpoints.py`, the table of all that can be asked; `operations.py` is what stands behind it.
"""
