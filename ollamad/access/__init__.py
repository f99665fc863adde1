"""Who may do what: keys and their file, what a key is for, how much it may have; certificates; which `Host` is ours."""
