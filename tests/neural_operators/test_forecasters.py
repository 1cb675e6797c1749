"""What every forecaster must satisfy, run on each of them (the contract of rule S10)."""

import dataclasses
import functools
import gc
import os
from collections.abc import Callable
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sciml
from sciml.data import GaussianNormaliser
from sciml.neural_operators import (
    AbstractForecaster,
    AutoregressiveFNO,
    Persistence,
    SolverForecaster,
    SpaceTimeFNO,
    SpatiotemporalFNO,
    rollout,
)
from sciml.problems import IMEXCrankNicolson, NavierStokes2D

REFERENCES = Path(__file__).parents[1] / "reference"
NORMALISER = GaussianNormaliser((0.1,), (1.7,))
N_STEPS = 6


@dataclasses.dataclass
class Case:
    make: Callable
    learned: bool = True


def _sfno(key):
    return SpatiotemporalFNO(
        1, dt=0.5, horizon=3.0, n_modes=(2, 3, 3), hidden_channels=4, n_layers=3, latent_steps=5,
        buffer_steps=1, context_channels=1, normaliser=NORMALISER, key=key,
    )  # fmt: skip


def _autoregressive(key):
    return AutoregressiveFNO(
        1, 2, (3, 3), hidden_channels=4, n_layers=2, context_channels=1, normaliser=NORMALISER,
        key=key,
    )  # fmt: skip


def _space_time(key):
    return SpaceTimeFNO(
        1, 2, (3, 3, 3), hidden_channels=4, n_layers=2, context_channels=1, normaliser=NORMALISER,
        key=key,
    )  # fmt: skip


def _solver(key):
    return SolverForecaster(
        NavierStokes2D((8, 8), viscosity=1e-2), IMEXCrankNicolson(), 0.1, substeps=2
    )


CASES = {
    "sfno": Case(_sfno),
    "autoregressive": Case(_autoregressive),
    "space-time": Case(_space_time),
    "persistence": Case(lambda key: Persistence(), learned=False),
    "solver": Case(_solver, learned=False),
}
LEARNED = [name for name, case in CASES.items() if case.learned]


@functools.cache
def build(name):
    return CASES[name].make(jax.random.key(17))


@functools.cache
def compiled(name):
    """Compile one forecast program per model for the whole file."""
    model = build(name)

    @jax.jit
    def forecast(arrays, inputs, context):
        return eqx.combine(arrays, static)(inputs, N_STEPS, context=context)

    arrays, static = eqx.partition(model, eqx.is_array)
    return lambda inputs, context: forecast(arrays, inputs, context)


@pytest.fixture
def window():
    rng = np.random.default_rng(19)
    inputs = rng.normal(size=(3, 1, 8, 8)).astype(np.float32)
    context = rng.normal(size=(1, 8, 8)).astype(np.float32)
    return jnp.asarray(inputs), jnp.asarray(context)


@pytest.mark.parametrize("name", CASES)
def test_shape_and_dtype(name, window):
    prediction = compiled(name)(*window)
    assert prediction.shape == (N_STEPS, 1, 8, 8)
    assert prediction.dtype == jnp.float32
    assert bool(jnp.all(jnp.isfinite(prediction)))


@pytest.mark.parametrize("name", CASES)
def test_stored_reference_output(name, window):
    """A change of these numbers is a change of the method: regenerate them on purpose only.

    ``SCIML_WRITE_REFERENCES=1 pytest <this file> -k stored`` writes them anew.
    """
    path = REFERENCES / f"forecaster-{name}.npz"
    prediction = np.asarray(compiled(name)(*window))
    if os.environ.get("SCIML_WRITE_REFERENCES"):
        np.savez_compressed(path, prediction=prediction)
    with np.load(path, allow_pickle=False) as stored:
        np.testing.assert_allclose(prediction, stored["prediction"], atol=2e-5)


@pytest.mark.parametrize("name", CASES)
def test_vmap_equals_a_loop(name, window):
    inputs, context = window
    batch = jnp.stack([inputs, -0.5 * inputs])
    model = build(name)
    mapped = jax.jit(jax.vmap(lambda x: model(x, N_STEPS, context=context)))(batch)
    for index in range(2):
        one = compiled(name)(batch[index], context)
        np.testing.assert_allclose(mapped[index], one, atol=2e-5)


@pytest.mark.parametrize("name", LEARNED)
def test_every_parameter_gets_a_gradient_and_it_is_right(name, window, x64):
    inputs, context = (jnp.asarray(a, jnp.float64) for a in window)
    arrays, static = eqx.partition(build(name), eqx.is_array)
    arrays = jax.tree.map(lambda a: a.astype(jnp.float64), arrays)

    def loss(arrays):
        return jnp.sum(jnp.sin(eqx.combine(arrays, static)(inputs, N_STEPS, context=context)))

    gradient = jax.jit(jax.grad(loss))(arrays)
    zero = [
        jax.tree_util.keystr(path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(gradient)
        if not np.any(leaf)
    ]
    assert not zero, f"no gradient reaches {zero}"

    rng = np.random.default_rng(23)
    direction = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape)), arrays)
    value = jax.jit(lambda t: loss(jax.tree.map(lambda a, d: a + t * d, arrays, direction)))
    step = 1e-5
    difference = (value(step) - value(-step)) / (2 * step)
    products = jax.tree.map(lambda g, d: jnp.sum(g * d), gradient, direction)
    slope = sum(float(p) for p in jax.tree.leaves(products))
    np.testing.assert_allclose(slope, float(difference), rtol=1e-6)


@pytest.mark.parametrize("name", LEARNED)
def test_saved_and_loaded_model_is_the_same(name, window, tmp_path):
    sciml.save(tmp_path / "model", build(name))
    loaded = sciml.load(tmp_path / "model")
    assert eqx.tree_equal(loaded, build(name))
    assert loaded.normaliser == NORMALISER


@pytest.mark.parametrize("name", LEARNED)
def test_models_of_other_data_share_the_program(name, window):
    """A process that trains on one data set after another keeps no program of each."""
    inputs, context = window
    model = build(name)
    other = eqx.tree_at(
        lambda model: model.normaliser,
        model,
        GaussianNormaliser((0.3,), (2.9,)),
        is_leaf=lambda node: isinstance(node, GaussianNormaliser),
    )
    first = model(inputs, N_STEPS, context=context)
    before = _compiled_programs()
    second = other(inputs, N_STEPS, context=context)
    assert _compiled_programs() == before
    expected = other.normaliser.decode(
        model.normaliser.encode(
            model(
                model.normaliser.decode(other.normaliser.encode(inputs)), N_STEPS, context=context
            )
        )
    )
    np.testing.assert_allclose(second, expected, atol=1e-4)
    assert np.abs(first - second).max() > 1e-3


def _compiled_programs():
    gc.collect()
    return len(jax.devices()[0].client.live_executables())


@pytest.mark.parametrize("name", CASES)
def test_rollout_chains_windows(name, window):
    inputs, context = window
    model = build(name)
    chained = jax.jit(lambda x: rollout(model, x, 5, window=4, context=context))(inputs)
    first = jax.jit(lambda x: model(x, 4, context=context))(inputs)
    np.testing.assert_allclose(chained[:4], first, atol=1e-5)
    second = jax.jit(lambda x: model(x, 4, context=context))(first[-3:])
    np.testing.assert_allclose(chained[4:], second[:1], atol=1e-4)


def test_a_model_may_answer_in_another_precision_than_it_is_asked(x64):
    class Double(AbstractForecaster):
        def __call__(self, inputs, n_steps, *, context=None):
            return Persistence()(inputs, n_steps, context=context).astype(jnp.float64)

    found = rollout(Double(), jnp.ones((2, 1, 4, 4), jnp.float32), 7, window=3)
    assert found.dtype == jnp.float64
    np.testing.assert_array_equal(found, 1)


@pytest.mark.parametrize("name", LEARNED)
def test_bad_windows_are_refused_by_name(name, window):
    inputs, context = window
    model = build(name)
    with pytest.raises(ValueError, match=r"axis 1 of `inputs` must have size 1"):
        model(jnp.ones((3, 2, 8, 8)), N_STEPS, context=context)
    with pytest.raises(ValueError, match=r"jax\.vmap"):
        model(inputs[None], N_STEPS, context=context)
    with pytest.raises(ValueError, match="`n_steps` must be at least 1"):
        model(inputs, 0, context=context)
    with pytest.raises(ValueError, match="pass `context`"):
        model(inputs, N_STEPS)
    with pytest.raises(ValueError, match="axis 1 of `context`"):
        model(inputs, N_STEPS, context=context[:, :4])
    with pytest.raises(ValueError, match=r"axis . has 4 points, but n_modes=3 needs"):
        model(inputs[..., :4], N_STEPS, context=context[..., :4])


@pytest.mark.parametrize("name", CASES)
def test_no_snapshot_and_integers_are_refused(name, window):
    inputs, context = window
    model = build(name)
    with pytest.raises(ValueError, match="at least one snapshot, got none"):
        model(inputs[:0], N_STEPS, context=context)
    with pytest.raises(TypeError, match="inputs"):
        model(inputs.astype(int), N_STEPS, context=context)


@pytest.mark.parametrize("name", ["autoregressive", "space-time"])
def test_too_short_a_window_is_refused(name, window):
    inputs, context = window
    with pytest.raises(ValueError, match="at least n_in=2 snapshots, got 1"):
        build(name)(inputs[:1], N_STEPS, context=context)
