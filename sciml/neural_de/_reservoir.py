"""Keep a few random accepted steps of a solve, in memory that does not grow with the steps."""

import enum
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ._forwarding_solver import AbstractForwardingSolver, WrapperState


class Sampling(enum.Enum):
    """How a step is drawn: with probability in proportion to its size (``TIME``), or evenly."""

    TIME = "time"
    STEP = "step"


class ReservoirSolver(AbstractForwardingSolver):
    """Wrap a solver; its state also holds ``n_samples`` independent draws of an accepted step.

    After step ``n`` of weight ``w_n`` a draw is that step with probability
    ``w_n / (w_1 + ... + w_n)``, by replacement; rejected steps vanish with their solver state.
    The gradient stops at what is kept, except for the states with ``through_state``.
    """

    solver: diffrax.AbstractSolver
    key_data: Array
    n_samples: int
    sampling: Sampling
    through_state: bool
    key_impl: Any
    # See `RegularizedSolver`.
    resume: PyTree = None

    def init(self, terms, t0, t1, y0, args):
        """Return the inner state and an empty reservoir."""
        n = self.n_samples
        time = jnp.full((n,), t0)
        states = jax.tree.map(lambda y: jnp.stack([y] * n), self._kept(y0))
        reservoir = (time, jnp.zeros_like(time), states, jnp.zeros_like(t0), jnp.zeros((), int))
        if self.resume is not None:
            return WrapperState(self.resume, reservoir)
        return WrapperState(self.solver.init(terms, t0, t1, y0, args), reservoir)

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        """Take a step of the inner solver and perhaps keep it."""
        inner, (times, sizes, states, total, count) = solver_state
        y1, y_error, dense_info, inner, result = self.solver.step(
            terms, t0, t1, y0, args, inner, made_jump
        )
        h = jax.lax.stop_gradient(t1 - t0)
        weight = h if self.sampling is Sampling.TIME else jnp.ones_like(h)
        total = total + weight
        key = jax.random.wrap_key_data(self.key_data, impl=self.key_impl)
        draw = jax.random.uniform(jax.random.fold_in(key, count), times.shape, times.dtype)
        replace = draw * total < weight

        def kept(old, new):
            mask = replace.reshape((-1,) + (1,) * jnp.ndim(new))
            return jnp.where(mask, jnp.expand_dims(new, 0), old)

        reservoir = (
            jnp.where(replace, jax.lax.stop_gradient(t0), times),
            jnp.where(replace, h, sizes),
            jax.tree.map(kept, states, self._kept(y0)),
            total,
            count + 1,
        )
        return y1, y_error, dense_info, WrapperState(inner, reservoir), result

    def _kept(self, y):
        return y if self.through_state else jax.lax.stop_gradient(y)
