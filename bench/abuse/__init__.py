"""What strangers do to a listener: attacks with what each gets, and fuzzed requests by the million."""
