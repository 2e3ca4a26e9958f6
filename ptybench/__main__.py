"""``python -m ptybench`` is the command ``ptybench``."""

import sys

from ptybench.cli import main

if __name__ == "__main__":
    sys.exit(main())
