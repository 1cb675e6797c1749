"""A multigrid cycle as preconditioner: linear, symmetric, positive definite, with learned scalars.

One V-cycle on a hierarchy of Galerkin operators with operator-dependent interpolation (black-box
multigrid, Dendy 1982) and Chebyshev smoothing. What is learned is a handful of numbers: the
interval of the smoother on each level and a factor on the coarse correction. With the smoother's
error polynomial ``p``, ``S = p(W^-1 A)``, and the cycle ``M_c`` of the next level, the cycle is

    M = (I - S^2) A^-1  +  scale S P M_c P^T S^T ,

which is symmetric, and positive definite for ``|p| < 1``, ``scale > 0`` and any positive definite
``M_c``.
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from ..core import check_floating, cites
from ..numerics import StencilOperator, full_precision
from ..numerics._power_of_two import power_of_two_below
from ..numerics._unrolled_stencil import UnrolledStencil
from ._bibliography import DENDY_1982, LAN_2024
from ._coarse_solve import CoarseSolve
from ._coarsening import axis_strengths, coarsening_plan
from ._galerkin import galerkin_operator
from ._grid_blocks import GridBlocks, grid_blocks
from ._interpolation import Interpolation, operator_dependent_interpolation, rows_by_parity
from ._multigrid_weights import MultigridWeights, trained_weights
from ._parted_levels import (
    GatheredInterpolation,
    PartedInterpolation,
    PartedStencil,
    coarsened_in_blocks,
)
from ._smoother import chebyshev_smooth, inverse_scale


class MultigridLevel(eqx.Module):
    """A level of the hierarchy: its operator, its smoother's scale, the way to the next level."""

    operator: UnrolledStencil | PartedStencil
    inverse_scale: Float[Array, "*space"]
    interpolation: Interpolation | PartedInterpolation | GatheredInterpolation


class Hierarchy(eqx.Module):
    """All levels, the finest first, and the exact solve on the last grid.

    They are those of the operator divided by ``size``, a power of two near its largest entry: in
    whatever units it is, it does not leave the narrower range of the cycle.
    """

    levels: tuple[MultigridLevel, ...]
    coarse_solve: CoarseSolve
    size: Float[Array, ""]


@cites(DENDY_1982, LAN_2024)
class MultigridPreconditioner(eqx.Module):
    """One multigrid V-cycle: an approximate inverse of an operator on a structured grid.

    Linear, symmetric and positive definite for every value of the weights, so it is a valid
    preconditioner for conjugate gradients (`cg`, SciPy's ``cg``, ``lineax.CG``). Grids of any size
    will do, with solid cells, jumps of the coefficient, thin walls and anisotropy along the axes.
    If ``A`` is singular (a fluid region without a Dirichlet boundary), the solver must project
    constants out, as `cg` does.

    Parameters
    ----------
    operator
        A symmetric positive (semi)definite `StencilOperator`.
    weights
        The learned numbers; by default those that ship with sciml. ``MultigridWeights()`` is the
        classical cycle.
    plan
        Which axes to coarsen on each level; by default it follows from the operator's mean
        couplings, for which its entries must be concrete. Under ``jax.jit`` pass the ``plan``
        attribute of a preconditioner of an alike operator.
    dtype
        Precision of the cycle. The default, float32, costs no iterations in a float64 solve.
    mesh
        Devices that share the grid (``jax.make_mesh``): its first axis parts the first axis of
        the grid into blocks, a second one the second, whatever their names; they must divide the
        number of points. Each product exchanges one plane with each neighbour; levels of less
        than 4096 points are whole on every device. The cycle is that of one device but for
        rounding. Solvers of sciml that are given it part their vectors alike.

    Raises
    ------
    ValueError
        If no cell takes part, the plan cannot be made from traced entries, or the mesh does not
        divide the grid.

    References
    ----------
    .. [1] J. E. Dendy, "Black box multigrid", Journal of Computational Physics 48 (1982), 366-386.
    .. [2] K. W. Lan et al., "A neural-preconditioned Poisson solver for mixed Dirichlet and
       Neumann boundary conditions", ICML 2024: the idea of a learned multigrid preconditioner.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sciml.problems import diffusion_operator
    >>> operator = diffusion_operator((40, 30))
    >>> z = MultigridPreconditioner(operator)(jnp.ones((40, 30)))
    >>> z.shape
    (40, 30)
    """

    operator: StencilOperator
    weights: MultigridWeights
    plan: tuple[tuple[bool, ...], ...] = eqx.field(static=True)
    dtype: jnp.dtype = eqx.field(static=True)
    mesh: Mesh | None = eqx.field(static=True)
    hierarchy: Hierarchy

    @full_precision
    def __init__(
        self,
        operator: StencilOperator,
        weights: MultigridWeights | None = None,
        *,
        plan: Sequence[Sequence[bool]] | None = None,
        dtype: DTypeLike = jnp.float32,
        mesh: Mesh | None = None,
    ):
        if not isinstance(operator.diagonal, Tracer) and not np.any(
            np.asarray(operator.diagonal) > 0
        ):
            raise ValueError(
                "no cell takes part: every diagonal entry of `operator` is 0 (all cells solid?)."
            )
        grid = None
        if mesh is not None:
            grid = grid_blocks(mesh, operator.n_points, operator.periodic)
        self.mesh = mesh
        self.operator = operator if grid is None else jax.tree.map(grid.placed, operator)
        self.weights = trained_weights(len(operator.n_points)) if weights is None else weights
        self.plan = _plan_for(operator) if plan is None else _checked_plan(plan, operator)
        self.dtype = jnp.dtype(dtype)
        check_floating("dtype", np.zeros((), self.dtype))
        self.hierarchy = build_hierarchy(self.operator, self.plan, self.dtype, grid)

    @full_precision
    def __call__(self, r: Float[Array, "*space"]) -> Float[Array, "*space"]:
        """Return the approximate solution ``z = M r`` of ``A z = r``, in the dtype of ``r``.

        Parameters
        ----------
        r
            Shape ``(*space)``. Entries in cells that take no part are ignored, and 0 in ``z``.
        """
        if r.shape != self.operator.n_points:
            raise ValueError(f"`r` must have shape {self.operator.n_points}, got {r.shape}.")
        size = jnp.ones((), r.dtype)
        if jnp.finfo(self.dtype).maxexp < jnp.finfo(r.dtype).maxexp:
            # The derivative is that of a linear map, whatever the size.
            size = power_of_two_below(jax.lax.stop_gradient(jnp.max(jnp.abs(r))))
            r = r / size
        z = v_cycle(self.hierarchy, self.weights, r.astype(self.dtype)).astype(r.dtype)
        return z * (size / self.hierarchy.size.astype(r.dtype))


def v_cycle(
    hierarchy: Hierarchy, weights: MultigridWeights, r: Float[Array, "*space"], level: int = 0
) -> Float[Array, "*space"]:
    """Return one V-cycle applied to a residual on a level.

    Parameters
    ----------
    hierarchy
        See `build_hierarchy`.
    weights
        The learned numbers.
    r
        The residual on that level's grid.
    level
        Where to begin.
    """
    if level == len(hierarchy.levels):
        return hierarchy.coarse_solve(r)
    here = hierarchy.levels[level]
    lower, upper, scale = weights.at(level, r.dtype)
    matvec = here.operator.mv

    def smooth(residual):
        return chebyshev_smooth(
            matvec, here.inverse_scale, residual, lower, upper, weights.n_sweeps
        )

    z = smooth(r)
    coarse = here.interpolation.restrict(r - matvec(z))
    correction = here.interpolation.prolong(v_cycle(hierarchy, weights, coarse, level + 1))
    z = z + scale * correction
    return z + smooth(r - matvec(z))


@eqx.filter_jit
def build_hierarchy(
    operator: StencilOperator,
    plan: tuple[tuple[bool, ...], ...],
    dtype: DTypeLike,
    grid: GridBlocks | None = None,
) -> Hierarchy:
    """Return the levels of an operator; compiled once for each shape and plan.

    Parameters
    ----------
    operator
        The operator on the finest grid.
    plan
        Which axes to coarsen on each level.
    dtype
        Precision of the cycle.
    grid
        How the finest grid is parted over devices; None for one device.
    """
    size = power_of_two_below(jnp.max(operator.diagonal))
    operator = jax.tree.map(lambda entries: entries / size, operator).astype(dtype)
    levels = []
    for coarsened in plan:
        if grid is not None:
            matrix, scale = PartedStencil(operator, grid), inverse_scale(operator)
            interpolation, operator, grid = coarsened_in_blocks(operator, coarsened, grid)
            levels.append(MultigridLevel(matrix, scale, interpolation))
            continue
        # Made once, for both that need it.
        parts = rows_by_parity(operator, coarsened)
        interpolation = operator_dependent_interpolation(operator, coarsened, parts)
        levels.append(
            MultigridLevel(UnrolledStencil(operator), inverse_scale(operator), interpolation)
        )
        operator = galerkin_operator(operator, interpolation, parts)
    if grid is not None:
        operator = jax.tree.map(grid.whole, operator)
    return Hierarchy(tuple(levels), CoarseSolve(operator), size)


def _plan_for(operator: StencilOperator) -> tuple[tuple[bool, ...], ...]:
    if isinstance(operator.diagonal, Tracer):
        raise ValueError(
            "which axes to coarsen depends on the entries of `operator`, which are traced here: "
            "pass `plan`, for instance that of a preconditioner built outside of jax.jit."
        )
    return coarsening_plan(operator.n_points, operator.periodic, axis_strengths(operator))


def _checked_plan(
    plan: Sequence[Sequence[bool]], operator: StencilOperator
) -> tuple[tuple[bool, ...], ...]:
    result = tuple(tuple(bool(c) for c in level) for level in plan)
    for level in result:
        if len(level) != len(operator.n_points) or not any(level):
            raise ValueError(
                f"each level of `plan` must have {len(operator.n_points)} entries, at least one "
                f"of them true; got {level}."
            )
    return result
