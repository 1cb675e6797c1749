r"""A layer whose output solves a PDE: the last linear layer of a network is a least-squares solve.

With basis functions :math:`b_j` from a network, the layer returns
:math:`u = \ell + \sum_j w_j b_j` with :math:`w = \arg\min \tfrac12 \sum_b \omega_b \,
\mathrm{mean}_i |r_b(u; x_i)|^2`, subject to the exact conditions, and derivatives with respect to
the network by the implicit function theorem.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from ..core import check_count, check_non_negative, cites
from ..numerics import full_precision
from ._basis import AbstractBasis
from ._bibliography import CHALAPATHI_2024, NEGIAR_2023
from ._field import ConstrainedField
from ._least_squares._implicit_adjoint import ImplicitAdjoint
from ._least_squares._least_squares import as_solver, as_stats
from ._least_squares._solver import AbstractLeastSquaresSolver, as_result
from ._points import as_points, check_residuals
from ._residual import AbstractResidual
from ._solve_experts import ExpertOutcome, ExpertProblem, solve_expert


@cites(NEGIAR_2023, CHALAPATHI_2024)
class HardConstraint(eqx.Module):
    r"""Wraps a basis into a layer that satisfies equations, boundary and conservation conditions.

    Parameters
    ----------
    basis
        `CoordinateBasis` or `GridBasis`: any network.
    residuals
        Blocks with distinct names. Each counts with the mean of its squared rows, so that the
        number of points changes the accuracy of the objective and not its balance.
    solver
        `LevenbergMarquardt` by default, or a least-squares solver of optimistix.
    adjoint
        How the coefficients are differentiated: `ImplicitAdjoint`.
    ridge
        Factor of the mean square of :math:`u - \ell` at the points of each fitted block, added to
        the objective. In these units it means the same for every network.
    whiten
        Whether to solve in combinations of the basis functions that are orthonormal on the points
        of the expert. It changes the way to the solution and not the solution; combinations at
        round-off (at its root with `NormalForm.gram`) are left out, and ``stats["basis_rank"]``
        tells how many are left.
    chunk
        How many points are evaluated at a time; None takes all at once.
    tabulate
        True makes tables of derivatives once, ``m n`` numbers each. False calls the network in
        every step and keeps no more than a chunk, for any number of points.

    References
    ----------
    .. [1] G. Négiar, M. W. Mahoney and A. S. Krishnapriyan, "Learning differentiable solvers for
       systems with hard constraints", ICLR, 2023.
    .. [2] N. Chalapathi, Y. Du and A. S. Krishnapriyan, "Scaling physics-informed hard constraints
       with mixture-of-experts", ICLR, 2024.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sciml.constraints import CoordinateBasis, Residual
    >>> powers = lambda x, p: jnp.stack([x[0] ** k for k in range(1, 7)])
    >>> basis = CoordinateBasis(powers, coordinates=("x",))
    >>> pde = Residual(lambda jet, x, p: jet["u_x"] - p * jet["u"] - 1, ("u", "u_x"))
    >>> layer = HardConstraint(basis, [pde])
    >>> field = layer(2.0, {"pde": jnp.linspace(0, 1, 20)[:, None]})
    >>> abs(float(field(jnp.array([1.0]))) - (jnp.e**2 - 1) / 2) < 1e-3
    True
    """

    basis: AbstractBasis
    residuals: tuple[AbstractResidual, ...]
    solver: AbstractLeastSquaresSolver
    adjoint: ImplicitAdjoint
    ridge: float = eqx.field(static=True)
    whiten: bool = eqx.field(static=True)
    chunk: int | None = eqx.field(static=True)
    tabulate: bool = eqx.field(static=True)

    def __init__(
        self,
        basis: AbstractBasis,
        residuals: Sequence[AbstractResidual],
        *,
        solver: Any = None,
        adjoint: ImplicitAdjoint | None = None,
        ridge: float = 0.0,
        whiten: bool = True,
        chunk: int | None = None,
        tabulate: bool = True,
    ):
        if not isinstance(basis, AbstractBasis):
            raise TypeError(f"`basis` must be CoordinateBasis or GridBasis, got {basis!r}.")
        check_residuals(residuals, basis)
        check_non_negative("ridge", ridge)
        self.basis = basis
        self.residuals = tuple(residuals)
        self.solver = as_solver(solver)
        self.adjoint = ImplicitAdjoint() if adjoint is None else adjoint
        self.ridge = float(ridge)
        self.whiten = bool(whiten)
        self.chunk = None if chunk is None else check_count("chunk", chunk)
        self.tabulate = bool(tabulate)

    @full_precision
    def __call__(
        self,
        parameters: PyTree[Any],
        points: Mapping[str, Any],
        *,
        w0: Float[Array, " n"] | None = None,
    ) -> ConstrainedField:
        """Solve the constraint and return the field.

        Parameters
        ----------
        parameters
            Passed to the network, the lift and the residuals: coefficients, initial data.
        points
            For each block by name an array of positions, or `Points`.
        w0
            Coefficients to start from, ``(n,)``, for instance those of the epoch before. They get
            no derivative.

        Returns
        -------
        ConstrainedField
            Look at ``field.ok``, or call ``field.check()``: under `jax.jit` nothing is raised.

        Raises
        ------
        ValueError
            If points are missing or do not fit their block, which the message names, or if ``w0``
            has another shape.
        """
        checked = as_points(points, self.residuals, self.basis)
        check_start(w0, (self.basis.size(parameters),))
        # As a mixture of one expert: the same program, and so the same bits.
        local = {name: jax.tree.map(lambda leaf: leaf[None], p) for name, p in checked.items()}
        start = None if w0 is None else w0[None]
        solved = _solve_one(self.expert_problem(), parameters, local, start)
        return as_field(self, None, parameters, solved)

    def expert_problem(self) -> ExpertProblem:
        """Return what each expert solves."""
        return ExpertProblem(
            self.basis,
            self.residuals,
            self.solver,
            self.adjoint,
            self.ridge,
            self.whiten,
            self.chunk,
            self.tabulate,
        )


@eqx.filter_jit
def _solve_one(problem, parameters, points, w0):
    def solve(each, start):
        return solve_expert(problem, parameters, each, start)

    return jax.vmap(solve)(points, w0)


def as_field(layer, router, parameters, solved: ExpertOutcome) -> ConstrainedField:
    """Return the record of solved experts; arrays have a leading axis of experts."""
    stats = as_stats(solved.outcome)
    stats |= {name: getattr(solved, name) for name in ("exact_defect", "basis_rank", "degenerate")}
    result = as_result(solved.outcome.status)
    return ConstrainedField(layer.basis, router, parameters, solved.w, result, stats)


def check_start(w0: Array | None, shape: tuple[int, ...]) -> None:
    """Raise ``ValueError`` unless ``w0`` has the given shape or is None."""
    if w0 is not None and jnp.shape(w0) != shape:
        raise ValueError(f"`w0` must have the shape {shape}, got {jnp.shape(w0)}.")
