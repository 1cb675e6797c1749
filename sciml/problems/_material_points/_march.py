"""March particles and record their positions: one program, a scan over frames and steps."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from ...core import (
    RESULTS,
    RealScalar,
    Solution,
    check_count,
    check_positive,
    results_where,
    throw_if_failed,
)
from ._method import MaterialPointMethod, ParticleState, Wall


def march_particles(
    method: MaterialPointMethod,
    state: ParticleState,
    *,
    dt: RealScalar,
    n_frames: int,
    substeps: int | None = None,
    throw: bool = True,
) -> Solution:
    """Record the positions of particles.

    Parameters
    ----------
    method
        Materials, box, grid.
    state
        The start, from `MaterialPointMethod.state` or an earlier march.
    dt
        Time between frames.
    n_frames
        Frames after the first.
    substeps
        Steps between frames; by default as many as stability asks for.
    throw
        Raise when the particles blow up or leave. Otherwise look at ``result``.

    Returns
    -------
    Solution
        ``value`` holds positions, ``(n_frames + 1, particle, dim)``, the start first; ``stats``
        has ``substeps``, ``n_steps``, ``state`` (the last one) and ``courant``: the largest part
        of a cell that a particle passed in a step at a frame.

    Raises
    ------
    ValueError
        If a step is above the stability limit `MaterialPointMethod.largest_step`, or a count is
        not positive.
    RuntimeError
        If a position is not finite, a particle is faster than a cell a step, or it comes too
        close to an open face, and ``throw`` is true.

    Notes
    -----
    Derivatives are forward ones (`jax.jvp`): `jax.grad` does not go through the loop over substeps.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sciml.problems import MaterialPointMethod, Sand, march_particles
    >>> method = MaterialPointMethod([Sand(100.0)], cell_size=1 / 8)
    >>> state = method.state(jnp.array([[0.5, 0.5]]), spacing=1 / 16)
    >>> fall = march_particles(method, state, dt=0.1, n_frames=1).value
    >>> print(f"{fall[0, 0, 1] - fall[1, 0, 1]:.3f}")  # 9.8 * 0.1**2 / 2 and half a step more
    0.052
    """
    check_positive("dt", dt)
    n_frames = check_count("n_frames", n_frames)
    traced = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((method, dt)))
    if substeps is None:
        if traced:
            raise ValueError("give `substeps` where `method` or `dt` are traced by jax.")
        substeps = max(1, math.ceil(float(dt) / method.largest_step() * (1 - 1e-6)))
    substeps = check_count("substeps", substeps)
    if not traced and float(dt) / substeps > method.largest_step() * (1 + 1e-5):
        least = math.ceil(float(dt) / method.largest_step())
        raise ValueError(
            f"a step of dt / substeps = {float(dt) / substeps:.3g} is above the stability limit "
            f"{method.largest_step():.3g} of cells of {method.cell_size:g} and these materials. "
            f"Take `substeps` of at least {least}, larger cells, or softer materials."
        )
    step = jnp.asarray(dt / substeps, state.position.dtype)
    value, last, good, courant = _march(
        method, state, step, jnp.asarray(substeps, jnp.int32), n_frames
    )
    n_good = jnp.sum(jnp.cumprod(good.astype(jnp.int32)))
    solution = Solution(
        value,
        results_where(n_good < n_frames, RESULTS.particles_diverged, RESULTS.successful),  # pyright: ignore[reportArgumentType]
        {
            "substeps": substeps,
            "n_steps": n_frames * substeps,
            "state": last,
            "courant": jnp.max(courant),
        },
    )
    if not throw:
        return solution
    cause = "`march_particles`: particles blew up, passed a cell in a step, or left the grid"
    if not isinstance(n_good, Tracer):
        cause += f" after frame {int(n_good)} of {n_frames}; raise `substeps` or close the walls."
    return throw_if_failed(solution, cause)


@eqx.filter_jit
def _march(
    method: MaterialPointMethod,
    state: ParticleState,
    step: Float[Array, ""],
    substeps: Int[Array, ""],
    n_frames: int,
) -> tuple[Float[Array, "t p d"], ParticleState, Bool[Array, " n"], Float[Array, " n"]]:
    low, high = (jnp.asarray(b, state.position.dtype) for b in np.array(method.bounds).T)
    margin = jnp.asarray(_open_margin(method), state.position.dtype)
    least, most = low + margin[:, 0], high - margin[:, 1]

    def frame(state, _):
        state = jax.lax.fori_loop(0, substeps, lambda _, s: method.step(s, step), state)
        courant = jnp.max(jnp.abs(state.velocity)) * step / method.cell_size
        x = state.position
        inside = jnp.all((x >= least[None]) & (x <= most[None]))
        # A NaN is neither inside nor slow.
        return state, (x, inside & (courant < 1), courant)

    last, (frames, good, courant) = jax.lax.scan(frame, state, None, length=n_frames)
    return jnp.concatenate([state.position[None], frames]), last, good, courant


def _open_margin(method: MaterialPointMethod) -> np.ndarray:
    """Return how far from each face particles must stay; rounding may carry them to a wall."""
    h = method.cell_size
    margin = np.full((method.dim, 2), -1e-3 * h)
    if method.walls is Wall.OPEN:
        margin[:] = 2 * h
    margin[-1, 0] = 2 * h if method.floor is Wall.OPEN else -1e-3 * h
    return margin
