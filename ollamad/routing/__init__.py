"""Which child gets a request: pure decisions on a snapshot of the fleet."""
