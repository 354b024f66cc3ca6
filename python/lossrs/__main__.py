"""``python -m lossrs`` is the command ``lossrs``."""

import sys

from lossrs.scoring.command_line import main

sys.exit(main())
