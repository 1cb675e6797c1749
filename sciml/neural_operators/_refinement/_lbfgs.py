r"""Refine by minimising the squared residual with L-BFGS: on the coefficients, or in a layer.

On the coefficients the unknown is the linear part's residual :math:`z`, in the norm of the
estimator,

.. math:: u = u_0 + P^{-1} W^{-1/2} z, \qquad \min_z \tfrac12 \|W^{1/2} R(u(z))\|^2,

so that the Hessian is the identity plus what convection adds, and a few dozen steps do what
plain descent on the coefficients, whose Hessian has the square of the viscous spectrum, does not.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from ...core import Trajectory, check_count
from .._sfno import SpatiotemporalFNO
from ._refinement_method import AbstractRefinementMethod, Progress, RefinementStart
from ._space_time_system import SpaceTimeSystem
from ._time_residual import Coefficients

_MEMORY = 20
# Steps between two looks of the host at the residual.
_STEPS_PER_LOOK = 10


class LBFGS(AbstractRefinementMethod):
    """L-BFGS on the space-time coefficients, preconditioned by the linear part.

    Slower than `NewtonGMRES`, but it needs nothing but gradients, and each step lowers the
    residual even where Newton's steps go nowhere.

    Parameters
    ----------
    n_iterations
        Iterations of a window at most; each takes one or two gradients.

    Examples
    --------
    >>> from sciml.neural_operators import LBFGS
    >>> LBFGS(50).n_iterations
    50
    """

    n_iterations: int = eqx.field(static=True)

    def __init__(self, n_iterations: int = 200):
        self.n_iterations = check_count("n_iterations", n_iterations)

    def run(
        self, system: SpaceTimeSystem, start: RefinementStart, progress: Progress
    ) -> Coefficients:
        """Return unknowns with the smallest residual met."""
        zero = jnp.zeros(2 * start.unknowns.size, start.unknowns.real.dtype)
        fixed = _Coefficients(system, start.unknowns)
        return minimise(_shifted_unknowns, fixed, zero, system, self.n_iterations, progress)


class OutputLayerLBFGS(AbstractRefinementMethod):
    """The published way: tune the weights of SFNO's last spectral layer, and nothing else.

    The layer is widened first, and the features below it are computed once. The published code
    descends by Adam on a residual that is blind (see `AbstractTimeResidual`); here L-BFGS descends
    on an honest one. What the layer cannot express stays as an error.

    Parameters
    ----------
    n_modes
        Modes of latent time and of each space axis that the widened layer has; all that the grid
        and the latent nodes hold, up to the dealiased third, where it is left out.
    n_iterations
        Iterations at most.

    Examples
    --------
    >>> from sciml.neural_operators import OutputLayerLBFGS
    >>> OutputLayerLBFGS((6, 16, 16)).n_modes
    (6, 16, 16)
    """

    n_modes: tuple[int, ...] | None = eqx.field(static=True)
    n_iterations: int = eqx.field(static=True)

    def __init__(self, n_modes: tuple[int, ...] | None = None, *, n_iterations: int = 200):
        self.n_modes = None if n_modes is None else tuple(n_modes)
        self.n_iterations = check_count("n_iterations", n_iterations)

    def run(
        self, system: SpaceTimeSystem, start: RefinementStart, progress: Progress
    ) -> Coefficients:
        """Return unknowns with the smallest residual met."""
        model = start.model
        if not isinstance(model, SpatiotemporalFNO):
            raise TypeError(
                "OutputLayerLBFGS tunes the output layer of a SpatiotemporalFNO, and "
                f"`prediction` is {type(model).__name__ if model is not None else 'an array'}. "
                "Pass the model itself, or use NewtonGMRES, which refines any prediction."
            )
        model = jax.tree.map(_to_double, model)
        n_modes = self.n_modes or _all_modes(model, system.problem.n_points)
        model = model.widen_output(tuple(map(max, n_modes, model.output_modes)))
        latent = _latent(model, start.inputs, start.context)
        fixed = _Layer(system, model, latent, start.inputs[-1:])
        weight = model.output.weight
        return minimise(_layer_unknowns, fixed, weight, system, self.n_iterations, progress)


def minimise(
    to_unknowns: Callable[[Any, PyTree[Array]], Coefficients],
    fixed: Any,
    parameters: PyTree[Array],
    system: SpaceTimeSystem,
    n_iterations: int,
    progress: Progress,
) -> Coefficients:
    """Minimise the squared residual of ``to_unknowns(fixed, parameters)`` by L-BFGS.

    Returns the unknowns of the best parameters met.
    """
    # optax mixes precisions of its own scalars, whatever the caller's promotion rules are.
    with jax.numpy_dtype_promotion("standard"):
        # Numbers of optax's own start out weakly typed, and all would be compiled a second time.
        state = jax.tree.map(
            lambda leaf: jnp.asarray(leaf, leaf.dtype), _optimizer().init(parameters)
        )
        if progress.max_steps is not None:
            n_iterations = min(n_iterations, progress.max_steps)
        scale, done = jnp.asarray(progress.eta), 0
        while not progress.done:
            if done >= n_iterations:
                progress.give_up()
                break
            n_steps = min(_STEPS_PER_LOOK, n_iterations - done)
            look = _descend(
                to_unknowns, fixed, parameters, system, state, jnp.asarray(n_steps), scale
            )
            improved = bool(look.eta < progress.eta)
            if improved:
                parameters, state = look.parameters, look.state
            done += n_steps
            progress.record(
                eta=float(look.eta) if improved else progress.eta,
                tendency=float(look.tendency) if improved else progress.tendency,
                improved=improved,
                n_gradients=int(look.n_gradients),
            )
        return eqx.filter_jit(to_unknowns)(fixed, parameters)


class _Look(NamedTuple):
    """What the host sees after some iterations."""

    parameters: PyTree[Array]
    state: Any
    eta: Float[Array, ""]
    tendency: Float[Array, ""]
    n_gradients: Int[Array, ""]


def _optimizer() -> Any:
    import optax  # here: it is a third of the time that importing this package took

    return optax.lbfgs(memory_size=_MEMORY)


@eqx.filter_jit
def _descend(
    to_unknowns: Callable[[Any, PyTree[Array]], Coefficients],
    fixed: Any,
    parameters: PyTree[Array],
    system: SpaceTimeSystem,
    state: Any,
    n_steps: Int[Array, ""],
    scale: Float[Array, ""],
) -> _Look:
    import optax

    optimizer = _optimizer()

    def loss(parameters):
        return 0.5 * (system.eta(system.evaluate(to_unknowns(fixed, parameters))) / scale) ** 2

    value_and_grad = optax.value_and_grad_from_state(loss)

    def step(_, carry):
        parameters, state, n_gradients = carry
        value, gradient = value_and_grad(parameters, state=state)
        updates, state = optimizer.update(
            gradient, state, parameters, value=value, grad=gradient, value_fn=loss
        )
        # The line search hands its last gradient on, so its steps are all the work there is.
        used = optax.tree.get(state, "info").num_linesearch_steps
        return optax.apply_updates(parameters, updates), state, n_gradients + used

    parameters, state, n_gradients = jax.lax.fori_loop(
        0, n_steps, step, (parameters, state, jnp.asarray(0))
    )
    unknowns = to_unknowns(fixed, parameters)
    eta = system.eta(system.evaluate(unknowns))
    return _Look(parameters, state, eta, system.tendency(unknowns), n_gradients)


class _Coefficients(NamedTuple):
    """The map from L-BFGS's vector to the unknowns, for refining the coefficients."""

    system: SpaceTimeSystem
    start: Coefficients


def _shifted_unknowns(fixed: _Coefficients, vector: Float[Array, " n"]) -> Coefficients:
    residual = fixed.system.from_dual_vector(vector, fixed.start)
    return fixed.start + fixed.system.solve_linear_part(residual)


class _Layer(NamedTuple):
    """The map from the output layer's weights to the unknowns."""

    system: SpaceTimeSystem
    model: SpatiotemporalFNO
    latent: Float[Array, "hidden_channels latent_steps *space"]
    last_input: Trajectory


def _layer_unknowns(fixed: _Layer, weight: Float[Array, "..."]) -> Coefficients:
    model = eqx.tree_at(lambda model: model.output.weight, fixed.model, weight)
    system = fixed.system
    times = system.dt * jnp.arange(1, system.n_steps + 1, dtype=system.dt.dtype)
    normalised = model.normaliser.encode(fixed.last_input)
    values = model.normaliser.decode(normalised + model.evaluate(fixed.latent, times))
    u_hat = jax.vmap(system.problem.to_spectral)(values)
    return system.residual.to_unknowns(system.history_hat, u_hat)


@eqx.filter_jit
def _latent(
    model: SpatiotemporalFNO,
    inputs: Trajectory,
    context: Float[Array, "context_channels *space"] | None,
) -> Float[Array, "hidden_channels latent_steps *space"]:
    return model.latent(model.normaliser.encode(inputs), context, model.dt)


def _to_double(leaf: Any) -> Any:
    return leaf.astype(jnp.float64) if eqx.is_inexact_array(leaf) else leaf


def _all_modes(model: SpatiotemporalFNO, n_points: Sequence[int]) -> tuple[int, ...]:
    """Modes of latent time that the nodes hold, and of space up to the dealiased third."""
    return ((model.latent_steps + 1) // 2, *((n + 2) // 3 for n in n_points))
