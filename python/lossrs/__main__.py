"""``python -m lossrs`` is the command ``lossrs``."""

import sys

from lossrs.scoring.command_line import main

if __name__ == "__main__":
    sys.exit(main())
