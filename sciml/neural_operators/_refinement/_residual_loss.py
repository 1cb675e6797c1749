r"""A loss without labels: how far a forecast is from solving the equation."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...core import KeyArray, RealScalar, Trajectory, check_count, check_positive
from ...problems import AbstractSemilinearPDE
from ._finite_difference_residual import FiniteDifferenceResidual
from ._space_time_system import check_kinds, make_system, ratio, to_unknowns
from ._time_residual import AbstractTimeResidual

_DEFAULT_RESIDUAL = FiniteDifferenceResidual(4)
# What a sample's scale is at least, over the largest of its batch: a flow at rest has none.
_LEAST_SHARE = 1e-3


@runtime_checkable
class InputBatch(Protocol):
    """What a label-free loss needs of a batch; `sciml.data.Window` is one.

    ``inputs`` is ``(batch, n_in, channels, *space)``, ``context`` is
    ``(batch, context_channels, *space)`` or None. Targets are not looked at.
    """

    @property
    def inputs(self) -> Any: ...

    @property
    def context(self) -> Any: ...


class ResidualLoss(eqx.Module):
    r"""The mean over a batch of a forecast's relative residual in :math:`L^2(0, T; H^{-1})`.

    .. math:: \frac{\eta(\text{forecast})}{\sqrt T \, \|L u_0 + N(u_0)\|_{-1}}

    The scale is the time derivative of the last input, which the model cannot change, but at
    least a thousandth of the largest one of the batch: a flow at rest has none. Add it to
    `sciml.train.forecast_loss` on the trajectories that have labels, or train on it alone: it
    needs the equation and nothing else.

    Parameters
    ----------
    problem
        The equation, on the grid of the batch.
    dt
        Time between snapshots.
    n_steps
        Snapshots to forecast.
    residual
        The residual in time.

    Examples
    --------
    With labels on ``pair[0]`` and none on ``pair[1]``:

    >>> from sciml.neural_operators import ResidualLoss
    >>> from sciml.problems import NavierStokes2D
    >>> from sciml.train import forecast_loss
    >>> residual_loss = ResidualLoss(NavierStokes2D((16, 16), viscosity=1e-3), 0.2, 40)
    >>> def loss(model, pair, key):
    ...     return forecast_loss(model, pair[0], key) + 0.1 * residual_loss(model, pair[1], key)
    """

    problem: AbstractSemilinearPDE
    dt: float = eqx.field(static=True)
    n_steps: int = eqx.field(static=True)
    residual: AbstractTimeResidual

    def __init__(
        self,
        problem: AbstractSemilinearPDE,
        dt: RealScalar,
        n_steps: int,
        *,
        residual: AbstractTimeResidual = _DEFAULT_RESIDUAL,
    ):
        check_kinds(problem, residual)
        check_positive("dt", dt)
        self.problem = problem
        self.dt = float(dt)
        self.n_steps = check_count("n_steps", n_steps)
        self.residual = residual

    def __call__(
        self, model: Callable[..., Trajectory], window: InputBatch, key: KeyArray
    ) -> Float[Array, ""]:
        """Return the mean relative residual of ``model`` on ``window``; ``key`` is not used."""
        del key

        def one(inputs: Array, context: Array | None) -> tuple[Float[Array, ""], Float[Array, ""]]:
            forecast = model(inputs, self.n_steps, context=context)
            system = make_system(self.problem, self.residual, inputs, self.dt, self.n_steps)
            unknowns = to_unknowns(system, forecast)
            start = jnp.broadcast_to(system.history_hat[-1:], unknowns.shape)
            return system.eta(system.evaluate(unknowns)), system.tendency(start)

        in_axes = (0, None if window.context is None else 0)
        etas, scales = jax.vmap(one, in_axes)(jnp.asarray(window.inputs), window.context)
        return jnp.mean(ratio(etas, jnp.maximum(scales, _LEAST_SHARE * jnp.max(scales))))
