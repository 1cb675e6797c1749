"""The front door for reference solutions: march with a fixed step and save snapshots."""

import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Complex, Float, Int
from tqdm.auto import tqdm

from ..core import (
    RESULTS,
    RealScalar,
    Solution,
    check_count,
    check_finite,
    check_floating,
    check_positive,
    check_shape,
    results_where,
    throw_if_failed,
)
from ._etdrk4 import ETDRK4
from ._semilinear import AbstractSemilinearPDE
from ._stepper import AbstractStepper

_DEFAULT_STEPPER = ETDRK4()

# The bar needs the host between chunks; a chunk this long hides the cost of coming back.
_SECONDS_PER_CHUNK = 0.2


def solve(
    problem: AbstractSemilinearPDE,
    u0: Float[Array | np.ndarray, "..."],
    *,
    dt: RealScalar,
    n_steps: int,
    save_every: int = 1,
    stepper: AbstractStepper[Any] = _DEFAULT_STEPPER,
    progress: bool = False,
    throw: bool = True,
) -> Solution:
    """Solve the initial value problem by ``n_steps`` steps of size ``dt``.

    The whole march is one compiled scan. It may be called under ``jax.jit`` and ``jax.vmap`` (for
    a batch of initial states), and differentiated in ``u0``, ``dt`` and the coefficients of the
    problem; reverse mode then keeps one state per snapshot and ``save_every`` states at a time.
    The precision is that of ``u0``, in units in which squares of the state are in its range: where
    they round to zero (1e-19 in float32) the nonlinear terms are gone.

    Parameters
    ----------
    problem
        The equation, for instance `NavierStokes2D`.
    u0
        Initial state, shape ``(channels, *space)``, float32 or float64.
    dt
        Step size, in the time unit of the problem.
    n_steps
        Number of steps.
    save_every
        Steps between snapshots; it must divide ``n_steps``.
    stepper
        The method; `ETDRK4` where it is left out.
    progress
        Show a bar with rate and time left; only outside ``jax.jit``, ``vmap`` and ``grad``.
    throw
        Raise when the solution blows up. Otherwise look at ``result``.

    Returns
    -------
    Solution
        ``value`` holds the snapshots, shape ``(n_steps // save_every + 1, channels, *space)``,
        the first of them ``u0``; ``result`` is ``RESULTS.successful`` or ``RESULTS.diverged``;
        ``stats`` has ``n_steps``, ``n_evaluations`` (of the nonlinear term) and
        ``time_of_failure``, the time of the first non-finite state (infinity if there is none).

    Raises
    ------
    TypeError
        If ``u0`` is not float32 or float64, or ``problem`` or ``stepper`` is something else, such
        as a class instead of an object.
    ValueError
        If ``dt`` is not positive, ``save_every`` does not divide ``n_steps``, or ``u0`` has the
        wrong shape or non-finite entries.
    RuntimeError
        If the solution blows up and ``throw`` is true.

    Examples
    --------
    >>> import jax
    >>> from sciml.problems import NavierStokes2D, gaussian_random_field, solve
    >>> problem = NavierStokes2D((32, 32), viscosity=1e-3)
    >>> start = gaussian_random_field((32, 32), key=jax.random.key(7))
    >>> solution = solve(problem, start, dt=0.1, n_steps=20, save_every=10)
    >>> solution.value.shape
    (3, 1, 32, 32)
    """
    for name, argument, kind in (
        ("problem", problem, AbstractSemilinearPDE),
        ("stepper", stepper, AbstractStepper),
    ):
        if not isinstance(argument, kind):
            raise TypeError(
                f"`{name}` must be an object of a class that derives from {kind.__name__}, got "
                f"{argument!r}."
            )
    u0 = _check_state(problem, u0)
    check_positive("dt", dt)
    n_steps = check_count("n_steps", n_steps)
    save_every = check_count("save_every", save_every)
    if n_steps % save_every:
        raise ValueError(
            f"`n_steps` must be a multiple of `save_every`, got {n_steps} and {save_every}: the "
            f"last {n_steps % save_every} steps would end in no snapshot."
        )
    coefficients = stepper.prepare(problem, dt, u0.dtype)
    march = _march_with_bar if progress else _march
    value, n_finite = march(problem, stepper, coefficients, u0, n_steps // save_every, save_every)

    diverged = n_finite < n_steps
    failure = jnp.where(
        diverged, (n_finite + 1).astype(u0.dtype) * jnp.asarray(dt, u0.dtype), jnp.inf
    )
    solution = Solution(
        value,
        results_where(diverged, RESULTS.diverged, RESULTS.successful),  # pyright: ignore[reportArgumentType]
        {
            "n_steps": n_steps,
            "n_evaluations": n_steps * stepper.n_evaluations,
            "time_of_failure": failure,
        },
    )
    if not throw:
        return solution
    cause = f"`solve` with {type(stepper).__name__} on {problem.n_points} points"
    if isinstance(failure, Tracer):
        cause += " blew up (`throw=False` gives `stats['time_of_failure']`)."
    else:
        cause += f" blew up at time {float(failure):.6g}, step {int(n_finite) + 1} of {n_steps}."
    return throw_if_failed(solution, cause)


def _check_state(
    problem: AbstractSemilinearPDE, u0: Float[Array | np.ndarray, "..."]
) -> Float[Array, "channels *space"]:
    check_floating("u0", u0)
    u0 = jnp.asarray(u0)
    if u0.dtype not in (jnp.float32, jnp.float64):
        raise TypeError(
            f"`u0` must be float32 or float64, the precisions of the FFT; got {u0.dtype}."
        )
    check_shape("u0", u0, (problem.n_channels, *problem.n_points))
    check_finite("u0", u0)
    return u0


def _advance(
    problem: AbstractSemilinearPDE,
    stepper: AbstractStepper[Any],
    coefficients: Any,
    u_hat: Complex[Array, "channels *modes"],
    n_finite: Int[Array, ""],
    n_steps: int | Int[Array, ""],
) -> tuple[Complex[Array, "channels *modes"], Int[Array, ""]]:
    """Take ``n_steps`` steps, counting those that end in a finite state."""

    def body(_, carry):
        u_hat, n_finite = carry
        u_hat = stepper.step(problem, coefficients, u_hat)
        # A sum is finite only if all its terms are: one pass, without an array of booleans.
        finite = jnp.isfinite(jnp.sum(jnp.abs(u_hat.real) + jnp.abs(u_hat.imag)))
        return u_hat, n_finite + finite.astype(n_finite.dtype)

    return jax.lax.fori_loop(0, n_steps, body, (u_hat, n_finite))


@eqx.filter_jit
def _march(
    problem: AbstractSemilinearPDE,
    stepper: AbstractStepper[Any],
    coefficients: Any,
    u0: Float[Array, "channels *space"],
    n_snapshots: int,
    save_every: int,
) -> tuple[Float[Array, "time channels *space"], Int[Array, ""]]:
    @jax.checkpoint
    def chunk(carry, _):
        u_hat, n_finite = carry
        u_hat, n_finite = _advance(problem, stepper, coefficients, u_hat, n_finite, save_every)
        return (u_hat, n_finite), problem.to_physical(u_hat)

    carry = (problem.to_spectral(u0), jnp.asarray(0, jnp.int32))
    (_, n_finite), snapshots = jax.lax.scan(chunk, carry, None, length=n_snapshots)
    return jnp.concatenate([u0[None], snapshots]), n_finite


@eqx.filter_jit
def _advance_compiled(problem, stepper, coefficients, u_hat, n_finite, n_steps):
    return _advance(problem, stepper, coefficients, u_hat, n_finite, n_steps)


def _march_with_bar(
    problem: AbstractSemilinearPDE,
    stepper: AbstractStepper[Any],
    coefficients: Any,
    u0: Float[Array, "channels *space"],
    n_snapshots: int,
    save_every: int,
) -> tuple[Float[Array, "time channels *space"], Int[Array, ""]]:
    """Like `_march`, coming back to the host a few times a second; stops at a blow-up."""
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((coefficients, u0))):
        raise ValueError(
            "`progress=True` works outside jax.jit, jax.vmap and jax.grad only, where the host "
            "sees the steps pass. Leave it out in transformed code."
        )
    u_hat, n_finite = problem.to_spectral(u0), jnp.asarray(0, jnp.int32)
    snapshots = [u0]
    done, chunk = 0, 1
    with tqdm(total=n_snapshots * save_every, unit="step", desc="solve") as bar:
        while len(snapshots) <= n_snapshots and int(n_finite) == done:
            n = min(chunk, len(snapshots) * save_every - done)
            start = time.monotonic()
            # The number of steps is an array, so that all chunk lengths share one program.
            u_hat, n_finite = jax.block_until_ready(
                _advance_compiled(
                    problem, stepper, coefficients, u_hat, n_finite, jnp.asarray(n, jnp.int32)
                )
            )
            if time.monotonic() - start < _SECONDS_PER_CHUNK:
                chunk *= 2
            done += n
            bar.update(n)
            if done == len(snapshots) * save_every:
                snapshots.append(problem.to_physical(u_hat))
    n_missing = n_snapshots + 1 - len(snapshots)
    snapshots += [jnp.full_like(u0, jnp.nan)] * n_missing
    return jnp.stack(snapshots), n_finite
