"""`python -m ollamad`."""

import sys

from ollamad.cli.entry import ollamad

if __name__ == "__main__":
    sys.exit(ollamad())
