"""Benchmarks: each prints a table, and writes JSON where it is asked to."""
