"""The learned numbers: bounds, sharing between levels, and the weights that ship with sciml."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sciml
from sciml.linear_solvers._fit_preconditioner import mean_iterations
from sciml.linear_solvers._multigrid_weights import MultigridWeights, trained_weights
from sciml.problems import obstacle_problem

FLOAT32 = np.dtype("float32")


def _values(weights, level):
    return [float(v) for v in weights.at(level, FLOAT32)]


def test_start_is_the_classical_cycle():
    lower, upper, scale = _values(MultigridWeights(), 0)
    assert lower == pytest.approx(0.5, abs=1e-4)
    assert 1.98 < upper < 2
    assert scale == 1


def test_every_raw_value_is_in_range():
    raw = np.random.default_rng(1).normal(0, 5, (3, 20)).astype(np.float32)
    weights = MultigridWeights(n_levels=20)
    where = lambda w: (w.raw_lower, w.raw_upper, w.raw_scale)  # noqa: E731
    weights = eqx.tree_at(where, weights, tuple(jnp.asarray(row) for row in raw))
    for level in range(20):
        lower, upper, scale = _values(weights, level)
        assert 0 < lower <= 2
        assert 0 < upper <= 2
        assert lower + upper >= 2
        assert scale > 0


def test_coarser_levels_share_the_last_numbers():
    weights = MultigridWeights(n_levels=2)
    weights = eqx.tree_at(lambda w: w.raw_scale, weights, jnp.asarray([0.0, 1.0]))
    assert _values(weights, 0)[2] == 1
    assert _values(weights, 1) == _values(weights, 7)
    assert _values(weights, 7)[2] == pytest.approx(np.e)


@pytest.mark.parametrize("arguments", [{"n_levels": 0}, {"n_sweeps": 0}])
def test_counts_are_checked(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        MultigridWeights(**arguments)


def test_saved_and_loaded(tmp_path):
    weights = MultigridWeights(n_levels=2, n_sweeps=3)
    weights = eqx.tree_at(lambda w: w.raw_lower, weights, jnp.asarray([0.25, -3.0]))
    sciml.save(tmp_path / "weights", weights)
    assert eqx.tree_equal(sciml.load(tmp_path / "weights"), weights)


@pytest.mark.parametrize("n_axes", [1, 4])
def test_other_dimensions_get_the_classical_cycle(n_axes):
    assert eqx.tree_equal(trained_weights(n_axes), MultigridWeights())


@pytest.mark.parametrize("n_axes", [2, 3])
def test_shipped_weights(n_axes):
    weights = trained_weights(n_axes)
    assert isinstance(weights, MultigridWeights)
    assert not eqx.tree_equal(weights, MultigridWeights())
    for level in range(weights.n_levels):
        lower, upper, scale = _values(weights, level)
        assert 0 < lower < 2
        assert lower + upper > 2
        assert 0.5 < scale < 2


@pytest.mark.parametrize(("n_axes", "n"), [(2, 64), (3, 16)])
def test_shipped_weights_are_no_worse_than_the_classical_ones(x64, n_axes, n):
    # Of two alike problems: the fifth of an iteration that training may gain is not seen here, but
    # weights that were lost or mixed up cost several.
    keys = jax.random.split(jax.random.key(929), 2)
    problems = [obstacle_problem((n,) * n_axes, key=key) for key in keys]
    trained = mean_iterations(trained_weights(n_axes), problems)
    assert trained <= mean_iterations(MultigridWeights(), problems)
    bad = eqx.tree_at(lambda w: w.raw_scale, trained_weights(n_axes), replace_fn=lambda v: v + 1)
    assert mean_iterations(bad, problems) > trained
