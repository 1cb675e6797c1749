"""The entry point: parse, run, and turn every failure into one line and an exit status."""

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import tyro

from ._compilation_cache import enable_compilation_cache
from ._data import Data
from ._demo import Demo
from ._epilogs import epilog
from ._errors import FAILURE, INTERRUPTED, USAGE, describe_failure, exit_status
from ._info import Info
from ._predict import Predict
from ._refine import Refine
from ._solve import Solve
from ._train import Train

_DESCRIPTION = "sciml: learned solvers for PDEs, compared with the classical ones."

_Command = (
    Annotated[Demo, tyro.conf.subcommand("demo")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Predict, tyro.conf.subcommand("predict")]
    | Annotated[Refine, tyro.conf.subcommand("refine")]
    | Annotated[Solve, tyro.conf.subcommand("solve")]
    | Annotated[Data, tyro.conf.subcommand("data")]
    | Annotated[Info, tyro.conf.subcommand("info")]
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command of ``sciml`` and return its exit status.

    Parameters
    ----------
    argv
        The arguments behind ``sciml``; those of the process by default.

    Returns
    -------
    int
        0 when all went well, 1 when the work failed, 2 when the arguments or the data were bad,
        130 after Ctrl-C. Each failure is one line on standard error; ``--debug`` among the
        arguments, or SCIML_DEBUG=1, adds the traceback.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words or os.environ.get("SCIML_DEBUG", "") not in ("", "0")
    words = [word for word in words if word != "--debug"]
    if not words:
        words = ["--help"]
    try:
        command = tyro.cli(
            _Command,  # pyright: ignore[reportArgumentType]
            prog="sciml",
            description=_DESCRIPTION,
            args=words,
            config=(
                tyro.conf.FlagCreatePairsOff,
                tyro.conf.OmitArgPrefixes,
                tyro.conf.DisallowNone,
                tyro.conf.PositionalMetavarFromFieldName,
            ),
        )
    except SystemExit as stop:
        # argparse ends this way: 0 after --help, 2 after a usage error that it has explained.
        if stop.code == 0:
            print(epilog(words))
            return 0
        return USAGE
    try:
        enable_compilation_cache()
        command.run()
    except KeyboardInterrupt as stop:
        # A command that can be taken up again says how.
        print(f"sciml: interrupted. {stop}".rstrip(" ."), file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe (`| head`) has left; what is still buffered must not fail at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILURE
    except Exception as error:
        if debug:
            raise
        print(f"sciml: error: {describe_failure(error)}", file=sys.stderr)
        return exit_status(error)
    return 0
