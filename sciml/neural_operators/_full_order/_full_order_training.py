"""Train a kernel reduced-order model: candidates of whole trajectories, then a small regression."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ...core import KeyArray, Solution, check_count, load
from ...data import Trajectory, sample_particles
from ...data._trajectory import check_walls
from ...train import fit, one_cycle_adam
from ._kernel_reduced_order_model import KernelReducedOrderModel

# Times the favour of a start: the mixture is then one candidate, to rounding.
_SURE = 10.0
# A mixture must be better than one candidate alone by this factor on the few trajectories of the
# validation set: a smaller gain there says little about others.
_GAIN = 0.98
# Displacements below this part of the box count as this much.
_LEAST_MOTION = 1e-3


class CandidateBatch(NamedTuple):
    """Queries of any trajectories and frames, each with its candidates.

    Attributes
    ----------
    tracks
        Positions by each candidate less the true position, ``(query, candidate, dim)``.
    features
        What the network sees, ``(query, feature)``.
    weight
        Of each query in the loss: inverse to the mean square displacement of its trajectory.
    """

    tracks: Float[Array, "b k d"] | Float[np.ndarray, "b k d"]
    features: Float[Array, "b f"] | Float[np.ndarray, "b f"]
    weight: Float[Array, " b"] | Float[np.ndarray, " b"]


class CandidateBatches:
    """``batches[step]`` is a random batch, which depends on step and seed alone.

    Parameters
    ----------
    model
        Whose candidates.
    trajectories
        To learn from.
    n_samples
        How many particles are known: one number, or several, which all are used. They are spread
        evenly in the first frame; all other particles are queries.
    every
        Of the frames, take each so-many-th.
    batch_size
        Queries of a batch.
    seed
        Of the batches.

    Raises
    ------
    ValueError
        If a trajectory has no particle that is not a sample, no frame to learn from, or a periodic
        box.
    """

    def __init__(
        self,
        model: KernelReducedOrderModel,
        trajectories: Sequence[Trajectory],
        n_samples: int | Sequence[int],
        *,
        every: int = 5,
        batch_size: int = 4096,
        seed: int = 0,
    ):
        check_count("every", every)
        self.batch_size = check_count("batch_size", batch_size)
        self.seed = check_count("seed", seed, minimum=0)
        counts = [n_samples] if isinstance(n_samples, int | np.integer) else list(n_samples)
        if not trajectories or not counts:
            raise ValueError("there is no trajectory, or no number of samples.")
        for k, run in enumerate(trajectories):
            check_walls(run)
            if run.n_times <= every:
                raise ValueError(
                    f"trajectory {k} has {run.n_times} frames; with `every` = {every} at least "
                    f"{every + 1} are needed."
                )
        found = [_candidates(model, run, n, every) for run in trajectories for n in counts]
        self.whole = CandidateBatch(*(np.concatenate(parts) for parts in zip(*found, strict=True)))

    def __len__(self) -> int:
        """Return the number of queries."""
        return len(self.whole.features)

    def __getitem__(self, step: int) -> CandidateBatch:
        """Return the batch of a step."""
        rng = np.random.default_rng((self.seed, step))
        chosen = rng.integers(len(self), size=self.batch_size)
        return CandidateBatch(*(part[chosen] for part in self.whole))

    def standardise(self, model: KernelReducedOrderModel) -> KernelReducedOrderModel:
        """Return the model with these features' mean and spread, and their best candidate favoured.

        Parameters
        ----------
        model
            The one whose candidates these are.
        """
        features = self.whole.features
        best = int(np.argmin(self.errors()))
        favour = jnp.max(model.favour) * jnp.eye(len(model.favour), dtype=model.favour.dtype)[best]
        return eqx.tree_at(
            lambda m: (m.feature_mean, m.feature_std, m.favour),
            model,
            (
                jnp.asarray(features.mean(0)),
                jnp.asarray(features.std(0) + 1e-3, features.dtype),
                favour,
            ),
        )

    def errors(self) -> Float[np.ndarray, " k"]:
        """Return the error of each candidate, as `error` does of the mixture."""
        tracks, _, weight = self.whole
        squares = np.einsum("b,bkd->k", weight, tracks.astype(np.float64) ** 2)
        return np.sqrt(squares / len(weight))

    def error(self, model: KernelReducedOrderModel) -> float:
        """Return the error of the mixture.

        The root of the mean over queries and frames of the square, relative to the displacement;
        trajectories count equally, so that one violent one does not decide alone.

        Parameters
        ----------
        model
            The one whose candidates these are.
        """
        total, n = 0.0, len(self)
        for first in range(0, n, 65536):
            part = CandidateBatch(*(a[first : first + 65536] for a in self.whole))
            total += float(_loss(model, part)) * len(part.features)
        return float(np.sqrt(total / n))


def full_order_loss(model: KernelReducedOrderModel, batch: CandidateBatch, key: KeyArray) -> Array:
    """Return the mean square of the mixture's error, relative to the displacement.

    Parameters
    ----------
    model
        The network is trained; the candidates are as they are.
    batch
        From `CandidateBatches`.
    key
        Not used: there is no chance in it.
    """
    error = jnp.sum(model.mix(batch.tracks, batch.features) ** 2, axis=-1)
    return jnp.mean(batch.weight * error)


def train_full_order(
    model: KernelReducedOrderModel,
    train: Sequence[Trajectory],
    validation: Sequence[Trajectory],
    n_samples: int | Sequence[int],
    *,
    n_steps: int = 1500,
    learning_rate: float = 3e-3,
    batches: tuple[CandidateBatches, CandidateBatches] | None = None,
    key: KeyArray,
    progress: bool = True,
) -> Solution:
    """Train the mixture on whole trajectories and keep what is best on others.

    The candidate that is best on the training set competes too, alone: it is what is returned
    unless the mixture is better by 2 % on the validation set.

    Parameters
    ----------
    model
        The start.
    train, validation
        Trajectories; none may stand in both.
    n_samples
        Particles that are known: one number, or several.
    n_steps
        Of training.
    learning_rate
        Largest of the cycle.
    batches
        Of both sets, where they were made before.
    key
        PRNG key of the run.
    progress
        Show a bar.

    Returns
    -------
    Solution
        ``value`` is the model; ``stats`` has ``error`` (of the validation set, relative to
        the displacement), ``start_error``, and the ``candidate_errors`` there.

    Raises
    ------
    ValueError
        If a trajectory stands in ``train`` and in ``validation``.
    """
    if {run.checksum() for run in train} & {run.checksum() for run in validation}:
        raise ValueError("a trajectory stands in `train` and in `validation`.")
    if batches is None:
        batches = (
            CandidateBatches(model, train, n_samples),
            CandidateBatches(model, validation, n_samples),
        )
    learn, check = batches
    start = learn.standardise(model)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        solution = fit(
            start,
            learn,
            loss=full_order_loss,
            optimizer=one_cycle_adam(learning_rate, n_steps),
            n_steps=n_steps,
            key=key,
            validation=check.error,
            validate_every=max(1, n_steps // 10),
            run_dir=run,
            progress=progress,
        )
        best = load(run / "best")
    start_error, error = check.error(start), check.error(best)
    sure = eqx.tree_at(lambda m: m.favour, start, _SURE * start.favour)
    if start_error <= error:
        best, error = start, start_error
    alone = check.error(sure)
    if error > _GAIN * alone:
        best, error = sure, alone
    stats = {
        "error": error,
        "start_error": start_error,
        "candidate_errors": check.errors(),
        "n_steps": solution.stats["n_steps"],
    }
    return Solution(best, solution.result, stats)


@eqx.filter_jit
def _loss(model, batch):
    return full_order_loss(model, batch, jax.random.key(0))


def _candidates(model, run, n_samples, every):
    samples = sample_particles(run, n_samples)
    others = np.setdiff1d(np.flatnonzero(run.mask), samples)
    if not len(others):
        raise ValueError(
            f"all {int(run.mask.sum())} particles of a trajectory are samples; take fewer."
        )
    frames = slice(every - 1, None, every)
    tracks, features = model.candidates(
        run.position[0, others], run.position[:, samples], bounds=run.bounds
    )
    truth = run.position[1:, others][frames]
    error = np.asarray(tracks[frames]) - truth[:, :, None]
    # A trajectory's error is relative to its own displacement; the unit drops out. One that hardly
    # moves must not outweigh all others.
    scale = np.mean(np.sum(run.displacement[1:, others] ** 2, -1))
    scale = max(scale, (_LEAST_MOTION * np.ptp(run.bounds, axis=1).max()) ** 2)
    dim, k = error.shape[-1], error.shape[-2]
    weight = np.full(error.shape[0] * error.shape[1], 1 / scale, error.dtype)
    features = np.asarray(features[frames])
    return error.reshape(-1, k, dim), features.reshape(-1, features.shape[-1]), weight
