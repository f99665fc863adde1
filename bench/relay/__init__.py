"""What the relay costs, beside real peers on the same work, and what it stands."""
