r"""Experts that solve one problem together, where those of `Experts` solve one each.

The unknowns are those of all experts, the basis functions :math:`\varphi_k(x)\, b_j(x)`: a
partition-of-unity method. In parts of the domain that touch no boundary an equation alone has many
solutions; here the neighbours decide among them.
"""

import equinox as eqx

from ..core import cites
from ._bibliography import BABUSKA_1997
from ._hard_constraint import HardConstraint
from ._routers import AbstractRouter


@cites(BABUSKA_1997)
def couple_experts(layer: HardConstraint, router: AbstractRouter) -> HardConstraint:
    r"""Return the layer whose basis functions are those of all experts of a router.

    One solve with :math:`K n` unknowns, :math:`K^2` times the work of an expert's step for each
    point, and no independent loops: for accuracy. `Experts` is for speed on many devices. A mixture
    that `Experts` found is a start, ``w0=field.w.reshape(-1)``.

    Parameters
    ----------
    layer
        What one expert would solve.
    router
        Its windows must be as smooth as the equation asks: boxes need ``overlap``.

    Returns
    -------
    HardConstraint
        Coefficients are ordered by expert.

    Raises
    ------
    TypeError
        If the arguments are of other kinds.

    References
    ----------
    .. [1] I. Babuška and J. M. Melenk, "The Partition of Unity Method", Int. J. Numer. Meth. Eng.
       40, 1997.

    Examples
    --------
    In float64; float32 tells the nine functions apart only in part (``stats["basis_rank"]``).

    >>> import math
    >>> import jax, jax.numpy as jnp
    >>> from sciml.constraints import BoxRouter, CoordinateBasis, Residual
    >>> powers = lambda x, p: jnp.stack([x[0] ** k for k in range(3)])
    >>> basis = CoordinateBasis(powers, coordinates=("x",))
    >>> slope = Residual(lambda jet, x, p: jet["u_x"] - jnp.cos(3 * x[0]), ("u_x",), name="slope")
    >>> start = Residual(lambda jet, x, p: jet["u"], ("u",), name="start")
    >>> router = BoxRouter((0.0,), (1.0,), (3,), overlap=0.3)
    >>> layer = couple_experts(HardConstraint(basis, [slope, start]), router)
    >>> with jax.enable_x64(True):
    ...     points = {"slope": jnp.linspace(0, 1, 60)[:, None], "start": jnp.zeros((1, 1))}
    ...     value = layer(None, points)(jnp.ones(1))
    >>> abs(float(value) - math.sin(3) / 3) < 1e-3
    True
    """
    if not isinstance(layer, HardConstraint):
        raise TypeError(f"`layer` must be a HardConstraint, got {layer!r}.")
    if not isinstance(router, AbstractRouter):
        raise TypeError(f"`router` must be a router such as BoxRouter, got {router!r}.")
    return eqx.tree_at(lambda each: each.basis, layer, layer.basis.windowed(router.weights))
