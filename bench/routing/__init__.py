"""Routing judged in virtual time: the daemon's own decisions over simulated children, beside what nginx would do."""
