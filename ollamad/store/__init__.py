"""Stores on disk: what models they hold, how they become equal, and what in them nobody needs."""
