"""Trajectories of particles for the commands."""

from collections.abc import Sequence
from pathlib import Path

from ..data import Trajectory, TrajectorySplits, load_trajectories
from ._errors import UsageError
from ._terminal import say


def load_particle_splits(source: Path, n_test: int | None) -> TrajectorySplits:
    """Return train and test; a file without parts is cut, a fifth for the test, at least one.

    Raises
    ------
    UsageError
        If there are too few trajectories.
    """
    found = load_trajectories(source)
    if isinstance(found, TrajectorySplits):
        if n_test is not None:
            raise UsageError(f"{source} has its own parts: leave --n-test out.")
        return found
    count = max(1, len(found) // 5) if n_test is None else n_test
    if not 0 <= count < len(found):
        raise UsageError(
            f"{source} holds {len(found)} trajectories; {count} for the test leaves none to train "
            "on."
        )
    return TrajectorySplits(found[: len(found) - count], test=found[len(found) - count :])


def fingerprint(run: Trajectory) -> str:
    """Return what tells a trajectory from others."""
    return run.checksum()[:16]


def load_particle_part(
    source: str, split: str, trained_on: Sequence[str]
) -> tuple[Trajectory, ...]:
    """Return one part of a file.

    Of a file without parts the trajectories with the fingerprints ``trained_on`` are the training
    part, and all others the test.

    Raises
    ------
    UsageError
        If the part is empty.
    """
    found = load_trajectories(Path(source))
    if not isinstance(found, TrajectorySplits):
        seen = [fingerprint(run) in trained_on for run in found]
        part = tuple(run for run, s in zip(found, seen, strict=True) if s == (split == "train"))
        if not part:
            raise UsageError(
                f"{sum(seen)} of the {len(found)} trajectories of {source} were trained on, none "
                f"is left for --split {split}."
            )
        if any(seen) and split != "train":
            say(f"Left out   {sum(seen)} trajectories that the model was trained on")
        return part
    part = tuple(getattr(found, split))
    if not part:
        raise UsageError(f"{source} has no part {split!r}; it has {', '.join(dict(found.items()))}")
    return part
