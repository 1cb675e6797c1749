"""``python -m sciml`` is the command ``sciml``."""

import sys

from .cli import main

sys.exit(main())
