"""GPUs as ollamad sees them: who is there, which are ours, how full and how busy they are."""
