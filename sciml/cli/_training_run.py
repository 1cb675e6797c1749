"""What all training commands share: the folder of a run, how to resume it, what is said last."""

import shlex
import sys
from collections.abc import Sequence
from typing import TypeAlias

from ..core import Solution
from ..plot import plot_training
from ..train import one_cycle_schedule
from ._errors import UsageError
from ._figures import draw_if_possible
from ._terminal import say
from ._train import AbstractTraining
from ._train_particles import TrainGIOROM

RunOptions: TypeAlias = AbstractTraining | TrainGIOROM


def check_run(options: RunOptions, counts: Sequence[str]) -> None:
    """Raise unless the numbers make sense and the folder is free, or holds a run to resume.

    Parameters
    ----------
    options
        Of the command.
    counts
        Names of those that must be at least 1.

    Raises
    ------
    UsageError
        With the option to change.
    """
    for name in counts:
        if getattr(options, name) < 1:
            raise UsageError(
                f"--{name.replace('_', '-')} must be at least 1, got {getattr(options, name)}."
            )
    if not 0 < options.learning_rate < float("inf"):
        raise UsageError(f"--learning-rate must be positive, got {options.learning_rate}.")
    if options.seed < 0:
        raise UsageError(f"--seed must not be negative, got {options.seed}.")
    if options.resume and options.overwrite:
        raise UsageError("--resume and --overwrite exclude one another.")
    folder = options.folder
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; --run-dir names a folder.")
    has_run = _has_checkpoint(options)
    if has_run and not (options.resume or options.overwrite):
        raise UsageError(
            f"{folder} holds an earlier run: add --resume to go on with it, --overwrite to replace "
            "it, or choose another --run-dir."
        )
    if options.resume and not has_run:
        raise UsageError(f"there is no checkpoint in {folder} to resume.")


def how_to_resume(options: RunOptions) -> str:
    """Return what to tell whoever interrupted the run."""
    if not _has_checkpoint(options):
        return "There is no checkpoint yet."
    words = [word for word in sys.argv[1:] if word not in ("--resume", "--overwrite")]
    return f"The state is saved; go on with: sciml {shlex.join(words)} --resume"


def tell_end(options: RunOptions, solution: Solution, errors: str, following: str) -> None:
    """Draw the curves of a run; print its errors, where things are, and the next command."""
    figure = draw_if_possible(
        lambda: plot_training(
            solution.stats["history"],
            learning_rate=one_cycle_schedule(options.learning_rate, options.steps),
            title=f"Training of {options.NAME}",
        ),
        options.folder / "figures" / "training.png",
    )
    say()
    say(errors)
    say()
    say(f"Model    {options.folder / 'checkpoint'}")
    say(f"Figure   {figure}")
    say(f"Next     {following}")


def _has_checkpoint(options: RunOptions) -> bool:
    return (options.folder / "checkpoint" / "config.json").exists()
