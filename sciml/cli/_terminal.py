"""What the commands print, and whether a progress bar has a terminal to move on."""

import sys


def say(text: str = "") -> None:
    """Print a line of the report, at once: the work after it may take long."""
    print(text, flush=True)


def shows_progress() -> bool:
    """Return whether standard error is a terminal; in a log file a bar is noise."""
    return sys.stderr.isatty()
