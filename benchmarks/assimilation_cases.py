"""The systems of assimilation.py: their data, what is measured, and sizes of the training."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

import sciml
from sciml.data import FieldDataset
from sciml.neural_operators import PointSensors
from sciml.problems import (
    ETDRK4,
    KortewegDeVries1D,
    KuramotoSivashinsky1D,
    gaussian_random_field,
    solve,
)

NOISE = 0.1
"""Standard deviation of a measurement's error over that of the field."""


@dataclasses.dataclass(frozen=True)
class System:
    """Data of a system, what is measured of it, and how NODA is trained on it."""

    name: str
    train: FieldDataset
    validation: np.ndarray
    test: np.ndarray
    observe: PointSensors
    first_scored: int
    n_modes: int
    width: int
    unrolled: int
    batch_size: int
    steps: tuple[int, int]
    lengths: tuple[float, ...]
    availabilities: tuple[float, ...]

    @property
    def noise_std(self) -> float:
        """Standard deviation of a measurement's error."""
        return NOISE * float(self.train.values.std())


def trajectories(problem, start, dt, substeps, warm_up, n_times, n, key) -> np.ndarray:
    """Return ``n`` solved trajectories ``(n, n_times, 1, x)`` in float32."""

    @jax.jit
    def one(key):
        solution = solve(
            problem,
            start(key),
            dt=dt / substeps,
            n_steps=(warm_up + n_times - 1) * substeps,
            save_every=substeps,
            throw=False,
        )
        return solution.value[warm_up:]

    values = np.asarray(jax.lax.map(one, jax.random.split(key, n)), np.float32)
    if not np.isfinite(values).all():
        raise RuntimeError("a trajectory of the data blew up")
    return values


def split(values: np.ndarray, n_held: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return train, validation and test."""
    return values[: -2 * n_held], values[-2 * n_held : -n_held], values[-n_held:]


def kuramoto_sivashinsky(data_seed: int, quick: bool) -> System:
    """Spatiotemporal chaos; a snapshot a time unit, ten solver steps each."""
    problem = KuramotoSivashinsky1D((64,), domain_extent=22.0)

    def start(key):
        u = gaussian_random_field((64,), 22.0, alpha=2.0, tau=0.5, key=key)
        return u / jnp.std(u)

    key = jax.random.key(data_seed)
    values = trajectories(problem, start, 1.0, 10, 100, 201, 80, key)
    train, validation, test = split(values, 16)
    return System(
        "Kuramoto-Sivashinsky",
        FieldDataset.from_array(train, dt=1.0, domain_extent=22.0),
        validation[:8],
        test,
        PointSensors.every((64,), 4),
        100,
        *(16, 32, 24, 10),
        (20, 20) if quick else (300, 1500),
        (1.5, 2.0, 3.0),
        (0.0, 0.1, 0.3, 1.0),
    )


def korteweg_de_vries(data_seed: int, quick: bool) -> System:
    """Three to five solitons on a circle; nothing is dissipated."""
    problem = KortewegDeVries1D((64,), domain_extent=20.0)

    def start(key):
        u = gaussian_random_field((64,), 20.0, alpha=3.0, tau=1.0, key=key)
        return 0.5 * u / jnp.std(u)

    key = jax.random.key(data_seed + 1)
    values = trajectories(problem, start, 0.25, 25, 0, 101, 64, key)
    train, validation, test = split(values, 8)
    return System(
        "Korteweg-de Vries",
        FieldDataset.from_array(train, dt=0.25, domain_extent=20.0),
        validation,
        test,
        PointSensors.every((64,), 4),
        50,
        *(16, 32, 12, 12),
        (20, 20) if quick else (200, 300),
        (1.5, 3.0),
        (0.0, 0.3, 1.0),
    )


def navier_stokes(data_seed: int, quick: bool) -> System:
    """Return the shipped sample: viscosity and forcing of the FNO benchmark, smooth flows."""
    splits = sciml.data.load("navier-stokes", n_points=32)
    values = [part.values.astype(np.float32) for part in (splits.validation, splits.test)]
    return System(
        "Navier-Stokes",
        FieldDataset.from_array(
            splits.train.values.astype(np.float32), dt=splits.train.dt, domain_extent=1.0
        ),
        *values,
        PointSensors.every((32, 32), 4),
        32,
        *(6, 12, 6, 4),
        (10, 10) if quick else (200, 400),
        (1.5, 3.0),
        (0.0, 0.3, 1.0),
    )


def solver_step():
    """Return the true model of a Kuramoto-Sivashinsky step: what no learned model can beat."""
    problem = KuramotoSivashinsky1D((64,), domain_extent=22.0)
    stepper = ETDRK4()
    weights = stepper.prepare(problem, 0.25, jnp.float32)

    def step(z):
        z_hat = problem.to_spectral(z)
        z_hat = jax.lax.fori_loop(0, 4, lambda _, z: stepper.step(problem, weights, z), z_hat)
        return problem.to_physical(z_hat)

    return step
