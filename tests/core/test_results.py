"""RESULTS extends lineax and optimistix; failures raise with cause and remedy, jitted or not."""

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import optimistix as optx
import pytest

from sciml.core import RESULTS, Solution, is_successful, results_where, throw_if_failed


def _solution(result, value=1.5):
    return Solution(jnp.asarray(value), result, {"n_steps": 3})


def test_extends_lineax_and_optimistix():
    promoted = RESULTS.promote(lx.RESULTS.stagnation)
    assert promoted == RESULTS.stagnation
    assert RESULTS.promote(optx.RESULTS.nonlinear_divergence) == RESULTS.nonlinear_divergence
    assert "blew up" in RESULTS[RESULTS.diverged]


def test_success_passes_through():
    solution = _solution(RESULTS.successful)
    assert throw_if_failed(solution) is solution
    assert bool(is_successful(RESULTS.successful))
    assert not bool(is_successful(RESULTS.interrupted))


def test_failure_raises_cause_and_remedy():
    with pytest.raises(RuntimeError, match=r"At t = 3\.5\..*smaller `dt`"):
        throw_if_failed(_solution(RESULTS.diverged), "At t = 3.5.")


def test_where_under_jit():
    @jax.jit
    def outcome(x):
        return results_where(x > 0, RESULTS.successful, RESULTS.diverged)

    assert outcome(1.0) == RESULTS.successful
    assert outcome(-1.0) == RESULTS.diverged


def test_of_a_batch_the_first_failure_is_told():
    results = jax.vmap(lambda x: results_where(x > 0, RESULTS.successful, RESULTS.diverged))(
        jnp.array([1.0, -1.0, -2.0])
    )
    with pytest.raises(RuntimeError, match=r"2 of 3 failed, the first at index 1: .*blew up"):
        throw_if_failed(_solution(results))


@pytest.mark.parametrize("cause", ["", "the march of this test failed"])
def test_failure_under_jit(cause):
    @eqx.filter_jit
    def run(x):
        result = results_where(x > 0, RESULTS.successful, RESULTS.diverged)
        return throw_if_failed(_solution(result, x), cause).value

    assert run(jnp.float32(2.0)) == 2.0
    with pytest.raises(RuntimeError, match=cause or "blew up"):
        run(jnp.float32(-2.0)).block_until_ready()
