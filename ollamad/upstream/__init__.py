"""HTTP/1.1 to the children, as raw bytes: strict heads, framing, connections, and the pool that keeps them."""
