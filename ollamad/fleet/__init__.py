"""The fleet: the one owner of what is true of every child, GPU and request in flight."""
