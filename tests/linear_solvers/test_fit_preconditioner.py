"""Training the cycle: gradients of the loss, progress on a tiny family, never worse, refusals."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.linear_solvers._conjugate_gradient import conjugate_gradient
from sciml.linear_solvers._fit_preconditioner import (
    _Batches,
    fit_preconditioner,
    log_reduction,
    mean_iterations,
)
from sciml.linear_solvers._multigrid import MultigridPreconditioner
from sciml.linear_solvers._multigrid_weights import MultigridWeights
from sciml.problems import anisotropic_problem, diffusion_operator, obstacle_problem


def _where(weights):
    return (weights.raw_lower, weights.raw_upper, weights.raw_scale)


def _bad_weights():
    """A coarse correction eight times too large on the first level: nothing converges quickly."""
    return eqx.tree_at(
        lambda w: w.raw_scale, MultigridWeights(), jnp.asarray([2.0, 0.0, 0.0], jnp.float32)
    )


@pytest.fixture(scope="module")
def family():
    """Return five problems on a grid with one level and a direct solve."""
    keys = jax.random.split(jax.random.key(88), 5)
    return [obstacle_problem((24, 24), key=key) for key in keys]


def test_gradient_of_the_loss(x64):
    problem = obstacle_problem((10, 9), key=jax.random.key(3))
    cycle = MultigridPreconditioner(
        problem.operator, MultigridWeights(1), plan=((True, True),), dtype=jnp.float64
    )

    @jax.jit
    @jax.value_and_grad
    def both(raw):
        weights = eqx.tree_at(_where, cycle.weights, tuple(raw))
        return log_reduction(weights, problem.operator, cycle.hierarchy, problem.right_hand_side, 3)

    rng = np.random.default_rng(4)
    raw = np.stack(_where(cycle.weights)).astype(np.float64) + 0.3 * rng.normal(size=(3, 1))
    gradient = np.asarray(both(raw)[1])
    assert np.all(np.abs(gradient[:, 0]) > 1e-6)
    step = 1e-5
    for index in np.ndindex(3, 1):
        change = np.zeros((3, 1))
        change[index] = step
        difference = float(both(raw + change)[0] - both(raw - change)[0]) / (2 * step)
        assert float(gradient[index]) == pytest.approx(difference, rel=1e-5, abs=1e-8)


def test_loss_is_the_reduction_by_conjugate_gradients(x64):
    """The loss runs its own few steps; they must be those of the solver."""
    problem = obstacle_problem((10, 9), key=jax.random.key(3))
    cycle = MultigridPreconditioner(
        problem.operator, MultigridWeights(1), plan=((True, True),), dtype=jnp.float64
    )
    b = problem.right_hand_side
    solution = conjugate_gradient(problem.operator, b, preconditioner=cycle, rtol=0.0, max_steps=3)
    expected = np.log(float(solution.stats["residual_norm"]) / np.linalg.norm(b)) / 3
    ours = eqx.filter_jit(log_reduction)(cycle.weights, problem.operator, cycle.hierarchy, b, 3)
    assert float(ours) == pytest.approx(expected, rel=1e-6)


def test_loss_has_derivatives_when_nothing_is_left_of_the_residual():
    operator = diffusion_operator((9,))
    cycle = MultigridPreconditioner(operator, MultigridWeights(1), plan=((True,),))

    @jax.jit
    @jax.value_and_grad
    def both(raw, b):
        weights = eqx.tree_at(lambda w: w.raw_scale, cycle.weights, raw)
        return log_reduction(weights, operator, cycle.hierarchy, b, 40)

    value, gradient = both(cycle.weights.raw_scale, jnp.arange(9, dtype=jnp.float32))
    assert value < np.log(1e-6) / 40
    assert np.isfinite(gradient).all()


def test_batches_are_the_same_in_all_units(family):
    """Of such systems float32 holds no squares."""
    key = jax.random.key(1)
    expected = jax.tree.leaves(_Batches(family[:2], 2, key)[0])
    for unit in (2.0**-90, 2.0**90):
        scaled = [
            dataclasses.replace(
                problem,
                operator=jax.tree.map(lambda entries, unit=unit: entries * unit, problem.operator),
                right_hand_side=problem.right_hand_side / unit,
            )
            for problem in family[:2]
        ]
        found = jax.tree.leaves(_Batches(scaled, 2, key)[0])
        # All but what one entry of each hierarchy says: how it was scaled.
        same = [np.array_equal(one, other) for one, other in zip(found, expected, strict=True)]
        assert same.count(False) == 1
    zero = dataclasses.replace(family[1], right_hand_side=jnp.zeros((24, 24)))
    with pytest.raises(ValueError, match="problem 1 is zero"):
        _Batches([family[0], zero], 2, key)


def test_training_repairs_bad_weights(family):
    solution = fit_preconditioner(
        family,
        key=jax.random.key(1),
        weights=_bad_weights(),
        n_steps=25,
        batch_size=2,
        n_cg_steps=3,
        progress=False,
    )
    before, after = (solution.stats[f"iterations_{when}"] for when in ("before", "after"))
    assert after <= before - 2
    assert np.isfinite(solution.stats["final_loss"])
    # A fifth is held out: one problem, the last.
    assert mean_iterations(solution.value, family[-1:]) == after
    assert mean_iterations(_bad_weights(), family[-1:]) == before


def test_never_worse_than_the_start(family):
    """Steps of size 50 ruin the weights; then the ones at the start come back, and it is told."""
    start = MultigridWeights()
    solution = fit_preconditioner(
        family,
        key=jax.random.key(1),
        n_steps=4,
        batch_size=2,
        n_cg_steps=3,
        learning_rate=50.0,
        progress=False,
    )
    assert solution.stats["iterations_after"] > solution.stats["iterations_before"]
    assert eqx.tree_equal(solution.value, start)


def test_refusals(family):
    key = jax.random.key(1)
    for few in ([], family[:1]):
        with pytest.raises(ValueError, match="needs problems and validation problems"):
            fit_preconditioner(few, key=key, progress=False)
    with pytest.raises(ValueError, match="validation"):
        fit_preconditioner(family, validation=[], key=key, progress=False)
    for other in (
        obstacle_problem((24, 25), key=key),
        anisotropic_problem((24, 24), ratio=1e4, key=key),
    ):
        with pytest.raises(ValueError, match="one grid and one coarsening plan; problem 1"):
            fit_preconditioner([family[0], other], validation=family[:1], key=key, progress=False)
    for name, zero in (
        ("n_steps", 0),
        ("batch_size", 0),
        ("n_cg_steps", 0),
        ("learning_rate", 0.0),
    ):
        with pytest.raises(ValueError, match=name):
            fit_preconditioner(family, key=key, progress=False, **{name: zero})
