"""From flow cases to what a model of one step sees: pairs of frames, features, scales."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..core import check_count, check_non_negative
from ._flow_case import FlowCase


class FlowInputs(NamedTuple):
    """What a model is told of a case, beside the frame.

    Attributes
    ----------
    mask
        True where the model has to say the velocity, ``(y, x)``.
    boundary
        The velocity where it is false, ``(2, y, x)``.
    features
        The case's features, standardised, ``(features,)``.
    scale
        The velocity that is one in the model's units.
    """

    mask: Bool[Array | np.ndarray, "*batch y x"]
    boundary: Float[Array | np.ndarray, "*batch 2 y x"]
    features: Float[Array | np.ndarray, "*batch features"]
    scale: Float[Array | np.ndarray, "*batch"]


class FlowBatch(NamedTuple):
    """Pairs of frames with what is known of their cases.

    Attributes
    ----------
    frames, targets
        A frame and the one ``stride`` later, ``(pair, 2, y, x)``.
    inputs
        What is known of their cases, stacked.
    """

    frames: Float[np.ndarray, "pair 2 y x"]
    targets: Float[np.ndarray, "pair 2 y x"]
    inputs: FlowInputs


@dataclasses.dataclass(frozen=True, eq=False)
class FlowPairs:
    """All pairs of frames of some cases, gathered when a batch is asked for.

    Attributes
    ----------
    trajectories
        The frames of each case, ``(time, 2, y, x)``.
    inputs
        What is known of each case.
    index
        Case and time of the first frame of each pair, ``(pair, 2)``.
    stride
        Frames from the first of a pair to the second.
    """

    trajectories: Sequence[Float[np.ndarray, "time 2 y x"]]
    inputs: Sequence[FlowInputs]
    index: Int[np.ndarray, "pair 2"]
    stride: int

    def __len__(self) -> int:
        return len(self.index)

    def batch(self, pairs: Sequence[int] | np.ndarray | slice = slice(None)) -> FlowBatch:
        """Return the chosen pairs.

        Parameters
        ----------
        pairs
            Their numbers; all of them by default.
        """
        chosen = self.index[pairs]
        frames = np.stack([self.trajectories[c][t] for c, t in chosen])
        targets = np.stack([self.trajectories[c][t + self.stride] for c, t in chosen])
        known = [self.inputs[c] for c, _ in chosen]
        inputs = FlowInputs(*(np.stack(entries) for entries in zip(*known, strict=True)))
        return FlowBatch(frames, targets, inputs)

    def batches(self, batch_size: int, *, seed: int) -> "FlowBatches":
        """Return the endless sequence of shuffled batches that `sciml.train.fit` takes.

        Parameters
        ----------
        batch_size
            Pairs a batch, at most as many as there are.
        seed
            Of the order; a batch depends on it and its number alone.
        """
        return FlowBatches(self, batch_size, seed)


@dataclasses.dataclass(frozen=True, eq=False)
class FlowBatches:
    """Batches of pairs: ``batches[step]`` depends on the seed and the step alone.

    Parameters
    ----------
    pairs
        The pairs.
    batch_size
        Pairs a batch.
    seed
        Of the order in each epoch.
    """

    pairs: FlowPairs
    batch_size: int
    seed: int

    def __post_init__(self):
        check_count("seed", self.seed, minimum=0)
        if check_count("batch_size", self.batch_size) > len(self.pairs):
            raise ValueError(
                f"`batch_size` {self.batch_size} is larger than the {len(self.pairs)} pairs."
            )

    @property
    def steps_per_epoch(self) -> int:
        """Batches that show every pair once; what is left over is left out."""
        return len(self.pairs) // self.batch_size

    def __getitem__(self, step: int) -> FlowBatch:
        epoch, place = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.pairs))
        return self.pairs.batch(order[place * self.batch_size : (place + 1) * self.batch_size])


class FlowNormaliser(eqx.Module):
    """Units and features of one problem, from its training cases.

    Velocities are divided by that of the case (lid or inlet) if ``dimensionless``, otherwise by
    one number; features are standardised. All figures are static.

    Parameters
    ----------
    names
        The features.
    mean, std
        Of each feature over the training cases; a feature that does not vary has the deviation 1.
    velocity_scale
        The common unit of velocity; not used if ``dimensionless``.
    dimensionless
        As in `FlowCase.features`.

    Examples
    --------
    >>> normaliser = FlowNormaliser(("log_reynolds",), (5.0,), (1.0,), 1.0)
    >>> normaliser.dimensionless
    True
    """

    names: tuple[str, ...] = eqx.field(static=True)
    mean: tuple[float, ...] = eqx.field(static=True)
    std: tuple[float, ...] = eqx.field(static=True)
    velocity_scale: float = eqx.field(static=True)
    dimensionless: bool = eqx.field(static=True)

    def __init__(
        self,
        names: Sequence[str],
        mean: Sequence[float],
        std: Sequence[float],
        velocity_scale: float,
        dimensionless: bool = True,
    ):
        self.names = tuple(names)
        self.mean = tuple(float(m) for m in mean)
        self.std = tuple(float(s) for s in std)
        if not len(self.names) == len(self.mean) == len(self.std):
            raise ValueError("`names`, `mean` and `std` must have one entry for each feature.")
        self.velocity_scale = float(velocity_scale)
        self.dimensionless = dimensionless

    @classmethod
    def fit(cls, cases: Sequence[FlowCase], *, dimensionless: bool = True) -> "FlowNormaliser":
        """Compute the figures from training cases of one problem.

        Parameters
        ----------
        cases
            The training cases, and no others.
        dimensionless
            As in `FlowCase.features`.
        """
        check_cases(cases)
        rows = [case.features(dimensionless=dimensionless) for case in cases]
        table = np.array([list(row.values()) for row in rows], np.float64)
        std = table.std(axis=0)
        std = np.where(std > 1e-9 * np.maximum(np.abs(table).max(axis=0), 1e-30), std, 1.0)
        speeds = np.array([case.speed for case in cases])
        scale = float(np.sqrt(np.mean(speeds**2)))
        return cls(tuple(rows[0]), table.mean(axis=0).tolist(), std.tolist(), scale, dimensionless)

    def inputs(self, case: FlowCase) -> FlowInputs:
        """Return what a model is told of a case.

        Parameters
        ----------
        case
            A case of the same problem.
        """
        features = case.features(dimensionless=self.dimensionless)
        if tuple(features) != self.names:
            raise ValueError(
                f"the normaliser has the features {self.names}, the case {tuple(features)}: it "
                "belongs to another problem."
            )
        dtype = case.u.dtype
        values = (np.array(list(features.values())) - np.array(self.mean)) / np.array(self.std)
        scale = case.speed if self.dimensionless else self.velocity_scale
        return FlowInputs(case.mask, case.boundary, values.astype(dtype), np.asarray(scale, dtype))


def frame_pairs(
    cases: Sequence[FlowCase],
    normaliser: FlowNormaliser,
    *,
    stride: int = 1,
    stop_tol: float | None = None,
) -> FlowPairs:
    """Return all pairs of frames ``stride`` apart.

    Parameters
    ----------
    cases
        Cases of one problem and shape.
    normaliser
        Of the training cases.
    stride
        Frames from input to target; `FlowCase.stride` gives it from seconds.
    stop_tol
        Leave out what follows the first pair whose mean change of speed is below this part of the
        case's velocity: stationary flow. The published loader compares with an absolute 1e-3 m/s,
        which drops slow flows whole. None keeps all frames.

    Raises
    ------
    ValueError
        If no pair is left, or the cases differ in problem or shape.

    Examples
    --------
    >>> from sciml.data import FlowNormaliser, generate_cavity
    >>> case = generate_cavity(lid=0.1, density=1.0, viscosity=1e-4, size=0.1, n=14, n_frames=4)
    >>> pairs = frame_pairs([case], FlowNormaliser.fit([case]), stride=2)
    >>> len(pairs), pairs.batch().frames.shape
    (3, (3, 2, 16, 16))
    """
    check_cases(cases)
    stride = check_count("stride", stride)
    if stop_tol is not None:
        check_non_negative("stop_tol", stop_tol)
    trajectories, index = [], []
    for number, case in enumerate(cases):
        n = case.n_times - stride
        if n < 1:
            raise ValueError(
                f"case {case.name!r} has {case.n_times} frames: too few for pairs {stride} apart."
            )
        frames = case.frames()
        if stop_tol is not None:
            speed = np.hypot(frames[:, 0], frames[:, 1])
            change = np.abs(speed[stride:] - speed[:-stride]).mean(axis=(1, 2))
            still = change < stop_tol * case.speed
            n = int(np.argmax(still)) if still.any() else n
        trajectories.append(frames)
        index += [(number, time) for time in range(n)]
    if not index:
        raise ValueError("no pair is left: every flow is stationary from the start.")
    inputs = [normaliser.inputs(case) for case in cases]
    return FlowPairs(trajectories, inputs, np.array(index), stride)


def check_cases(cases: Sequence[FlowCase]) -> None:
    """Raise ``ValueError`` unless there are cases, all of one problem, shape and time step."""
    if not cases:
        raise ValueError("`cases` must hold at least one case, got none.")
    kinds = {(case.problem.value, case.shape) for case in cases}
    if len(kinds) > 1:
        raise ValueError(
            f"`cases` must be of one problem and shape, got {sorted(kinds)}: the problems differ "
            "in scales, and a normalisation of one is wrong for the others."
        )
    intervals = sorted({float(case.dt) for case in cases})
    if intervals[-1] > intervals[0] * (1 + 1e-6):
        raise ValueError(
            f"`cases` must have frames at one interval, got {intervals} seconds: a step of one "
            "frame would be another step of time in each."
        )
