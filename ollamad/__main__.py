"""`python -m ollamad`."""

import sys

from ollamad.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
