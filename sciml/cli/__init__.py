"""Layer 5: the command line. JAX is imported when a command runs, so that ``--help`` is quick."""

from ._main import main as main
