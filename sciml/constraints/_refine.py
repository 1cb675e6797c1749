"""Test-time refinement: the constraint solved again, on more points and to a tighter tolerance."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx

from ..numerics import full_precision
from ._experts import Experts, RoutedPoints
from ._field import ConstrainedField
from ._hard_constraint import HardConstraint
from ._least_squares._levenberg_marquardt import LevenbergMarquardt


@full_precision
def refine(
    layer: HardConstraint | Experts,
    field: ConstrainedField,
    points: Mapping[str, Any] | RoutedPoints,
    *,
    solver: LevenbergMarquardt | None = None,
) -> ConstrainedField:
    """Solve again from a field that was found, on other points and with another solver.

    No training: the network is as it was, and its best combination on the new points is found.
    What the basis cannot express stays; look at ``stats["residual_norm"]`` before and after.

    Parameters
    ----------
    layer
        What made the field.
    field
        Where to start; it also tells the parameters.
    points
        As for the layer, usually more.
    solver
        By default `LevenbergMarquardt` with ``gtol=1e-12``, more steps and Newton steps.

    Returns
    -------
    ConstrainedField
        The refined field.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sciml.constraints import CoordinateBasis, Residual
    >>> powers = lambda x, p: jnp.stack([x[0] ** k for k in range(3)])
    >>> basis = CoordinateBasis(powers, coordinates=("x",))
    >>> fit = Residual(lambda j, x, p: j["u"] - x[0] ** 3, ("u",), name="fit")
    >>> quick = LevenbergMarquardt(newton_steps=0)
    >>> layer = HardConstraint(basis, [fit], solver=quick)
    >>> few = layer(None, {"fit": jnp.linspace(0, 1, 4)[:, None]})
    >>> field = refine(layer, few, {"fit": jnp.linspace(0, 1, 400)[:, None]}, solver=quick)
    >>> bool(field.ok.all())
    True
    """
    if solver is None:
        solver = LevenbergMarquardt(gtol=1e-12, max_steps=300, newton_steps=10)
    if isinstance(layer, Experts):
        tight = eqx.tree_at(lambda experts: experts.layer.solver, layer, solver)
        return tight(field.parameters, points, w0=field.w)
    tight = eqx.tree_at(lambda single: single.solver, layer, solver)
    return tight(field.parameters, points, w0=field.w[0])
