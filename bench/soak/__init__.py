"""Load, faults and a monitor, for as long as one likes."""
