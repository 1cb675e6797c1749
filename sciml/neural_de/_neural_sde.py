"""A neural stochastic differential equation with its regulariser."""

import enum
from collections.abc import Mapping
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float

from ..core import (
    KeyArray,
    check_count,
    check_floating,
    check_key,
    check_positive,
    check_real,
    check_shape,
    cites,
)
from ..numerics import full_precision
from ._bibliography import KIDGER_2021, PAL_2021
from ._checks import save_times
from ._regularization import Regularization
from ._solve_with import OnBatch, Penalty, check_penalty, solve_with, values_of
from ._step_regularizer import check_enum


class Noise(enum.Enum):
    """What ``diffusion(t, y, args)`` returns for a state of shape ``(state,)``.

    ``DIAGONAL``: one factor an entry, shape ``(state,)``. ``GENERAL``: a matrix
    ``(state, noise)``.
    """

    DIAGONAL = "diagonal"
    GENERAL = "general"


class _NoiseTerm(diffrax.AbstractTerm):
    """Diffusion times a Brownian path, for a batch of states."""

    diffusion: Any
    path: diffrax.AbstractBrownianPath
    is_diagonal: bool

    def vf(self, t, y, args):
        return jax.vmap(self.diffusion, in_axes=(None, 0, None))(t, y, args)

    def contr(self, t0, t1, **kwargs):
        return self.path.evaluate(t0, t1, **kwargs)

    @full_precision
    def prod(self, vf, control):
        return vf * control if self.is_diagonal else jnp.einsum("psn,pn->ps", vf, control)


@cites(PAL_2021, KIDGER_2021)
class NeuralSDE(eqx.Module):
    """``dy = drift dt + diffusion dW`` in the sense of Stratonovich, many paths as one state.

    Steps adapt to all paths together, as in the paper; the solver is SPaRK, which has an embedded
    error estimate, on a virtual Brownian tree. No step is shorter than a 512th of the span: one
    of that length is taken whatever its error is.

    Parameters
    ----------
    drift, diffusion
        ``f(t, y, args)`` of one state of shape ``(state,)``.
    noise
        What ``diffusion`` returns.
    n_noises
        Brownian motions of general noise.
    t0, t1
        Begin, and end where a call does not say otherwise.
    rtol, atol
        Tolerances.
    regularization
        Step regularisers by name (global), a `LocalRegularization`, or None.
    max_steps
        The most steps.

    Examples
    --------
    >>> model = NeuralSDE(lambda t, y, args: -y, lambda t, y, args: 0.1 * y)
    >>> model.noise
    <Noise.DIAGONAL: 'diagonal'>
    """

    drift: Any
    diffusion: Any
    noise: Noise
    n_noises: int | None
    t0: float
    t1: float
    rtol: float
    atol: float
    regularization: Any
    max_steps: int

    def __init__(
        self,
        drift: Any,
        diffusion: Any,
        *,
        noise: Noise = Noise.DIAGONAL,
        n_noises: int | None = None,
        t0: float = 0.0,
        t1: float = 1.0,
        rtol: float = 1e-2,
        atol: float = 1e-2,
        regularization: Penalty = None,
        max_steps: int = 4096,
    ):
        check_enum("noise", noise, Noise)
        check_positive("rtol", rtol)
        check_positive("atol", atol)
        check_real("t0", t0)
        check_real("t1", t1)
        if (noise is Noise.GENERAL) != (n_noises is not None):
            raise ValueError("give `n_noises` with `Noise.GENERAL`, and only then.")
        self.drift = drift
        self.diffusion = diffusion
        self.noise = noise
        self.n_noises = n_noises
        self.t0 = t0
        self.t1 = t1
        self.rtol = rtol
        self.atol = atol
        check_penalty(regularization)
        self.regularization = regularization
        self.max_steps = check_count("max_steps", max_steps)

    @full_precision
    def __call__(
        self,
        y0: Float[Array, " state"],
        *,
        key: KeyArray,
        ts: Any = None,
        n_paths: int = 1,
        args: Any = None,
        weights: Mapping[str, Any] | None = None,
        inference: bool = False,
    ) -> tuple[Array, Regularization, dict[str, Any]]:
        """Draw paths from one initial state.

        Parameters
        ----------
        y0
            Initial state, shape ``(state,)``.
        key
            Decides the noise, and the step that local regularisation draws.
        ts
            Times to return, increasing from ``t0`` on, where the paths begin; the last one is the
            end. The end alone by default.
        n_paths
            How many paths.
        args, weights, inference
            As in `NeuralODE`.

        Returns
        -------
        tuple
            Paths of shape ``(path, state)``, or ``(time, path, state)`` at ``ts``; the
            regularisers; statistics.

        Raises
        ------
        ValueError
            If the end is not after ``t0``, or ``ts`` is empty, out of order or begins before it.
        """
        check_key(key)
        check_floating("y0", y0)
        check_shape("y0", y0, ("state",))
        y0 = jnp.asarray(y0)
        n_paths = check_count("n_paths", n_paths)
        begin: Any = self.t0
        end: Any = self.t1
        if ts is not None:
            begin, ts = save_times(ts, self.t0)
            end = ts[-1]
        if not isinstance(begin, Tracer) and not isinstance(end, Tracer) and not begin < end:
            raise ValueError(f"a path goes forwards: `t1` must be after `t0`, got {end}, {begin}.")
        states = jnp.broadcast_to(y0, (n_paths, *y0.shape))
        n_noises = y0.shape[0] if self.n_noises is None else self.n_noises
        # Of this solve, whatever the model's own span is.
        length = jnp.abs(jnp.asarray(end - begin, states.dtype))
        path = diffrax.VirtualBrownianTree(
            *(begin, end, length * 2.0**-10),
            shape=jax.ShapeDtypeStruct((n_paths, n_noises), states.dtype),
            key=key,
            levy_area=diffrax.SpaceTimeLevyArea,
        )
        terms = diffrax.MultiTerm(
            diffrax.ODETerm(OnBatch(self.drift)),
            _NoiseTerm(self.diffusion, path, self.noise is Noise.DIAGONAL),
        )
        problem = (terms, diffrax.SPaRK(), begin, end, length / 20, states, args)
        options = {
            "saveat": diffrax.SaveAt(t1=True) if ts is None else diffrax.SaveAt(ts=ts),
            "stepsize_controller": diffrax.PIDController(
                rtol=self.rtol, atol=self.atol, pcoeff=0.1, icoeff=0.3, dtmin=length * 2.0**-9
            ),
            "max_steps": self.max_steps,
        }
        penalty = None if inference else self.regularization
        draw_key = jax.random.fold_in(key, 1)
        solution, result = solve_with(penalty, draw_key, weights, problem, options)
        return values_of(solution.ys, ts), result, solution.stats
