"""A NaN in observations, boundaries, training losses and checkpoints: how each is reported."""

import tempfile
from pathlib import Path
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import sciml
from sciml import (
    constraints,
    data,
    graph_solvers,
    natural_gradient,
    neural_de,
    neural_operators,
    problems,
    train,
)
from sciml.core import Solution, is_successful

from .nan_report import (
    KEY,
    NAN,
    NoEffect,
    at,
    dataset_of,
    line_layer,
    line_points,
    poisoned,
    short_march,
    small_fno,
    values,
    with_nan,
)

# -- observation


def _nudging() -> neural_operators.Nudging:
    observe = neural_operators.PointSensors.every((8,), 4)
    return neural_operators.Nudging(lambda z, dt=None: z, observe, 0.5)


@at("observation", "measurement that is declared")
def _() -> Any:
    return _nudging()(jnp.ones((1, 8)), with_nan(np.ones((3, 2))), np.ones(3, bool))


@at("observation", "measurement that the mask hides")
def _() -> NoEffect:
    mask, clean = np.array([False, True, True]), np.ones((3, 2))
    start = jnp.ones((1, 8))
    return NoEffect(_nudging()(start, with_nan(clean), mask), _nudging()(start, clean, mask))


@at("observation", "points of a hard constraint")
def _() -> Any:
    field = line_layer()(1.0, {"pde": jnp.asarray(with_nan(np.linspace(0, 1, 6)[:, None]))})
    return Solution(field.w, field.result, {})


@at("observation", "parameters of a hard constraint")
def _() -> Any:
    field = line_layer()(NAN, line_points())
    return Solution(field.w, field.result, {})


def _line(w: Any, points: Any, args: Any) -> Any:
    return w[0] + w[1] * points[0] - points[1]


@at("observation", "data of least squares")
def _() -> Any:
    x = jnp.arange(5.0)
    return constraints.least_squares(
        _line, jnp.zeros(2), (x, jnp.asarray(with_nan(x))), throw=False
    )


@at("observation", "data of weight zero")
def _() -> NoEffect:
    x = jnp.arange(5.0)
    weights = jnp.ones(5).at[0].set(0.0)
    fits = [
        constraints.least_squares(_line, jnp.zeros(2), (x, y), weights=weights).value
        for y in (jnp.asarray(with_nan(2 * x)), 2 * x)
    ]
    return NoEffect(*fits)


@at("observation", "series of a latent ODE where it was not observed")
def _() -> NoEffect:
    model = neural_de.LatentODE(1, n_latent=2, hidden_channels=3, key=KEY)
    mask, ts = jnp.ones((4, 1), bool).at[0].set(False), jnp.arange(4.0)
    series = jnp.ones((4, 1))
    dirty = model.encode(series.at[0].set(jnp.nan), mask, ts)
    return NoEffect(dirty, model.encode(series, mask, ts))


@at("observation", "samples of an interpolant")
def _() -> Any:
    samples = with_nan(np.random.default_rng(3).normal(size=(2, 6, 2)))
    return neural_operators.ThinPlateSpline()(np.zeros((1, 2)), samples)


# -- boundary


@at("boundary", "value of a Dirichlet condition")
def _() -> Any:
    return problems.boundary_source((4,), boundary=problems.Dirichlet(NAN))


@at("boundary", "flux of a Neumann condition")
def _() -> Any:
    return problems.boundary_source((4,), boundary=problems.Neumann(NAN))


def _network_flow(boundary: np.ndarray) -> Any:
    ends, held = np.array([[0, 1], [1, 2]]), np.array([True, False, True])
    return graph_solvers.diffusion_solve(np.ones(2), ends, held, boundary, throw=False)


@at("boundary", "held node of a network")
def _() -> Any:
    return _network_flow(with_nan(np.ones(3)))


@at("boundary", "entry of a node that is not held")
def _() -> NoEffect:
    clean = np.array([1.0, 0.0, 2.0])
    return NoEffect(_network_flow(with_nan(clean, 1)).value, _network_flow(clean).value)


@at("boundary", "speed of a lid")
def _() -> Any:
    problem = problems.LidDrivenCavity((8, 8), viscosity=0.1, lid=NAN)
    return problems.march_flow(problem, dt=0.01, n_frames=1, substeps=1, throw=False)


@at("boundary", "inlet of a channel")
def _() -> Any:
    problem = problems.ChannelFlow((8, 16), viscosity=0.1, inlet=NAN)
    return problems.march_flow(problem, dt=0.001, n_frames=1, substeps=1, throw=False)


@at("boundary", "soft condition of a march")
def _() -> Any:
    condition = natural_gradient.SoftBoundary(
        jnp.zeros((1, 1)), jnp.ones(1), lambda t, x: jnp.full((), jnp.nan)
    )
    return short_march(boundary=(condition,))


@at("boundary", "bounds of particles")
def _() -> Any:
    box = ((0.0, NAN), (0.0, 1.0))
    return problems.MaterialPointMethod([problems.Water()], cell_size=0.25, bounds=box)


# -- training loss


def _train(loss: Any, **options: Any) -> Any:
    model, batches = jnp.ones(2), [jnp.ones(2)]
    return train.fit(
        model, batches, loss=loss, optimizer=optax.sgd(0.1), n_steps=3, key=KEY, progress=False,
        throw=False, **options,
    )  # fmt: skip


@at("training loss", "value")
def _() -> Any:
    return _train(lambda model, batch, key: jnp.sum(model) * jnp.nan)


@at("training loss", "gradient of a finite value")
def _() -> Any:
    return _train(lambda model, batch, key: jnp.sum(jnp.sqrt(model - jax.lax.stop_gradient(model))))


@at("training loss", "batch")
def _() -> Any:
    batches = [jnp.array([1.0, jnp.nan])]
    return train.fit(
        jnp.ones(2), batches, loss=lambda m, batch, key: jnp.sum((m - batch) ** 2),
        optimizer=optax.sgd(0.1), n_steps=3, key=KEY, progress=False, throw=False,
    )  # fmt: skip


@at("training loss", "rows of a residual")
def _() -> Any:
    x, w = natural_gradient.box_quadrature(4, 1)
    network = eqx.nn.Linear(1, "scalar", key=KEY)
    terms = [
        natural_gradient.ResidualTerm(lambda u, x: jnp.nan * u(x), jnp.asarray(x), jnp.asarray(w))
    ]
    return natural_gradient.minimise_residuals(network, terms, max_steps=3, throw=False)


@at("training loss", "landscape")
def _() -> Any:
    found = natural_gradient.roughness_index(
        lambda p: jnp.sum(jnp.log(p)), jnp.ones(2), key=KEY, n_directions=2, n_points=5, length=2.0,
        throw=False,
    )  # fmt: skip
    return Solution(found.index, found.result, {})


@at("training loss", "objective of a constrained minimisation")
def _() -> Any:
    return constraints.minimise_constrained(
        lambda x, a: jnp.sum(x) * jnp.nan, lambda x, a: x[:1], jnp.ones(2), throw=False
    )


@at("training loss", "function that a network is fitted to")
def _() -> Any:
    network = natural_gradient.PeriodicMLP(1, width=2, depth=1, key=KEY)
    points = natural_gradient.CollocationPoints.grid(8, 1)
    return natural_gradient.fit_initial(
        network, lambda x: x[0] * jnp.nan, points, key=KEY, max_steps=2
    )


@at("training loss", "regulariser of an ODE")
def _() -> Any:
    term = diffrax.ODETerm(lambda t, y, args: -y * jnp.nan)
    options = {"regularizers": {"e": neural_de.ErrorEstimate()}}
    return neural_de.regularized_solve(
        term, diffrax.Tsit5(), 0.0, 1.0, 0.1, jnp.ones(1), **options
    )[1]


# -- checkpoint


@at("checkpoint", "of a run whose training failed")
def _() -> Any:
    folder = Path(tempfile.mkdtemp()) / "run"
    batches = dataset_of(values()).windows(1, 1, batch_size=2, seed=1)
    model = small_fno()

    def loss(model: Any, batch: Any, key: Any) -> Any:
        return train.forecast_loss(model, batch, key)

    options = {"optimizer": optax.sgd(1e-2), "key": KEY, "progress": False, "throw": False}
    good = train.fit(
        model, batches, loss=loss, n_steps=2, run_dir=folder, checkpoint_every=1, **options
    )
    bad = train.fit(
        model, batches, loss=lambda *a: loss(*a) * jnp.nan, n_steps=4, run_dir=folder, resume=True,
        **options,
    )  # fmt: skip
    assert not bool(is_successful(bad.result))
    kept = sciml.load(folder / "checkpoint")
    return NoEffect(eqx.filter(kept, eqx.is_array), eqx.filter(good.value, eqx.is_array))


@at("checkpoint", "weights of a saved model, used")
def _() -> Any:
    folder = Path(tempfile.mkdtemp()) / "model"
    sciml.save(folder, poisoned(small_fno()))
    return sciml.load(folder)(jnp.ones((1, 1, 8)), 2)


@at("checkpoint", "weights of a saved model, trained on")
def _() -> Any:
    folder = Path(tempfile.mkdtemp()) / "model"
    sciml.save(folder, poisoned(small_fno()))
    batches = dataset_of(values()).windows(1, 1, batch_size=2, seed=1)
    options = {"optimizer": optax.sgd(0.1), "n_steps": 2, "key": KEY, "progress": False}
    return train.fit(sciml.load(folder), batches, throw=False, **options)


@at("checkpoint", "constructor arguments of a saved model")
def _() -> Any:
    return data.GaussianNormaliser((NAN,), (1.0,))
