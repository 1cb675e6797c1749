"""``sciml solve``: the options; `_solve_job` does the work."""

import dataclasses
from pathlib import Path
from typing import Literal

import tyro


@dataclasses.dataclass(frozen=True)
class Solve:
    """Solve a linear system with a symmetric positive definite matrix from a file."""

    matrix: tyro.conf.Positional[Path]
    """The matrix: Matrix Market (.mtx, .mtx.gz), or .npz of scipy.sparse.save_npz."""
    rhs: tyro.conf.Positional[Path | None] = None
    """The right-hand side: .npy or .mtx, one column or several; ones by default."""
    out: Path | None = None
    """File for the solution (.npy)."""
    rtol: float = 1e-6
    """Residual to reach, relative to the right-hand side."""
    atol: float = 0.0
    """Residual that is small enough in any case."""
    maxiter: int | None = None
    """The most iterations; by default ten times the number of unknowns."""
    preconditioner: Literal["auto", "none", "jacobi", "gauss-seidel", "amg"] = "auto"
    """What speeds up the iteration; auto: learned multigrid on structured grids, otherwise the
    best classical one at hand. amg is smoothed aggregation and needs the extra `amg`."""
    n_points: tuple[int, ...] | None = None
    """Points along each axis of the grid, for auto; found from the matrix by default."""
    overwrite: bool = False
    """Replace what is at --out."""

    def run(self) -> None:
        """Print the table and write the solution."""
        from ._solve_job import run_solve

        run_solve(self)
