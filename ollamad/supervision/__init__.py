"""When a child is started, given up, stopped and started again: pure decisions, driven by `fleet`."""
