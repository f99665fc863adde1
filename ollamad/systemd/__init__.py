"""Life under systemd: what it is told (`notify`), what it hands over (`sockets`), where logs go (`journal`)."""
