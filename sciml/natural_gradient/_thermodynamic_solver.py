r"""Linear systems by a random walk: the thermodynamic natural gradient, simulated digitally.

The Ornstein-Uhlenbeck process :math:`dx = -(A x - g)\,dt + \sqrt{2/\beta}\,dW` has the mean
:math:`(I - e^{-At}) A^{-1} g + e^{-At} x_0`: gradient descent for small times, the natural gradient
for large ones.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree

from ..core import (
    KeyArray,
    RealScalar,
    check_count,
    check_key,
    check_non_negative,
    check_positive,
    cites,
)
from ._stationary_bibliography import DONATELLA_2024


class _State(eqx.Module):
    operator: lx.AbstractLinearOperator


@cites(DONATELLA_2024)
class OrnsteinUhlenbeckSolver(lx.AbstractLinearSolver):
    r"""A study of thermodynamic natural gradients, as a solver for `lineax.linear_solve`.

    On a physical device the walk costs nothing; simulated on a digital computer it is slower than
    conjugate gradients in every case. It is here to study what finite times and temperatures do to
    an optimiser, not to solve systems. After a finite time the answer is *not* the solution of the
    system, by design: it is called successful if it is finite, and ``stats["residual_norm"]`` says
    how far off it is. Its derivatives are those of the solution, as for every solver of lineax, and
    not those of the walk. The ``options`` of ``linear_solve`` may hold ``y0``, where the walk
    starts (the published "delay": the answer of the last system).

    Parameters
    ----------
    time
        How long the process runs, in units of the inverse of the operator's eigenvalues.
    n_steps
        Steps of the stochastic Heun scheme. It is stable if ``time / n_steps`` is below 2 by the
        largest eigenvalue; the mean's error falls with the square of the step.
    temperature
        :math:`1/\beta`. Zero gives the mean itself.
    n_walkers
        How many independent walks are averaged.
    key
        For the noise; needed unless the temperature is zero.

    Raises
    ------
    ValueError
        If a number is out of its range, or the key is missing.

    References
    ----------
    Donatella et al., "Thermodynamic natural gradient descent", 2024.

    Examples
    --------
    >>> import jax.numpy as jnp, lineax as lx
    >>> operator = lx.DiagonalLinearOperator(jnp.array([1.0, 2.0]))
    >>> operator = lx.TaggedLinearOperator(operator, lx.positive_semidefinite_tag)
    >>> solver = OrnsteinUhlenbeckSolver(time=1.0, n_steps=100)
    >>> lx.linear_solve(operator, jnp.ones(2), solver).value.round(3).tolist()
    [0.6320000290870667, 0.4320000112056732]
    """

    time: RealScalar
    n_steps: int = eqx.field(static=True)
    temperature: RealScalar
    n_walkers: int = eqx.field(static=True)
    key: KeyArray | None

    def __init__(
        self,
        time: RealScalar,
        n_steps: int = 1000,
        *,
        temperature: RealScalar = 0.0,
        n_walkers: int = 1,
        key: KeyArray | None = None,
    ):
        check_positive("time", time)
        check_non_negative("temperature", temperature)
        if key is not None:
            check_key(key)
        elif isinstance(temperature, jax.Array) or temperature > 0:
            raise ValueError("`key` is needed for the noise of a `temperature` above zero.")
        self.time = time
        self.n_steps = check_count("n_steps", n_steps)
        self.temperature = temperature
        self.n_walkers = check_count("n_walkers", n_walkers)
        self.key = key

    def init(self, operator: lx.AbstractLinearOperator, options: dict[str, Any]) -> _State:
        """Return the state of a solve; raise unless the operator is positive semidefinite."""
        del options
        if not lx.is_positive_semidefinite(operator):
            raise ValueError(
                "`OrnsteinUhlenbeckSolver` needs an operator with "
                "`lineax.positive_semidefinite_tag`: the walk runs away along negative eigenvalues."
            )
        return _State(lx.linearise(operator))

    def compute(
        self, state: _State, vector: PyTree[Array], options: dict[str, Any]
    ) -> tuple[PyTree[Array], lx.RESULTS, dict[str, Any]]:
        """Run the walk for one right-hand side."""
        g, restore = ravel_pytree(vector)
        start = options.get("y0")
        x0 = jnp.zeros_like(g) if start is None else ravel_pytree(start)[0]

        def product(x: Array) -> Array:
            return ravel_pytree(state.operator.mv(restore(x)))[0]

        x = self._mean_of_walks(product, g, x0)
        residual_norm = jnp.linalg.norm(product(x) - g)
        result = lx.RESULTS.where(
            jnp.all(jnp.isfinite(x)), lx.RESULTS.successful, lx.RESULTS.breakdown
        )
        return restore(x), result, {"residual_norm": residual_norm, "num_steps": self.n_steps}

    def _mean_of_walks(self, product: Any, g: Array, x0: Array) -> Array:
        dt = jnp.asarray(self.time, g.dtype) / self.n_steps
        size = jnp.sqrt(2 * jnp.asarray(self.temperature, g.dtype) * dt)

        def walk(key: Array | None) -> Array:
            def step(x, i):
                noise = jnp.zeros_like(x)
                if key is not None:
                    noise = size * jax.random.normal(jax.random.fold_in(key, i), x.shape, x.dtype)
                drift = g - product(x)
                ahead = g - product(x + dt * drift + noise)
                return x + 0.5 * dt * (drift + ahead) + noise, None

            return jax.lax.scan(step, x0, jnp.arange(self.n_steps))[0]

        if self.key is None:
            return walk(None)
        return jnp.mean(jax.vmap(walk)(jax.random.split(self.key, self.n_walkers)), axis=0)

    def transpose(self, state: _State, options: dict[str, Any]) -> tuple[_State, dict[str, Any]]:
        """Return state and options for the transposed operator, which is the operator."""
        del options
        return _State(state.operator.transpose()), {}

    def conj(self, state: _State, options: dict[str, Any]) -> tuple[_State, dict[str, Any]]:
        """Return state and options for the conjugate operator."""
        return _State(lx.conj(state.operator)), options

    def assume_full_rank(self) -> bool:
        """Return True: no gradient terms for a nullspace are made."""
        return True
