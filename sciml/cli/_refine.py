"""``sciml refine``: the options; `_refine_job` does the work."""

import dataclasses
from pathlib import Path
from typing import Literal

import tyro


@dataclasses.dataclass(frozen=True)
class Refine:
    """Make forecasts of two-dimensional Navier-Stokes flow solve their equation, in float64."""

    model: tyro.conf.Positional[Path]
    """A run folder (runs/demo), a saved model (runs/demo/best), or forecasts of the same data that
    `sciml predict` wrote."""
    data: tyro.conf.Positional[str]
    """A data file, or "navier-stokes" for the shipped sample."""
    out: Path
    """File for the refined forecasts: .npz, or .h5 (needs the extra `data`)."""
    residual: Literal["finite-differences", "defect", "collocation"] = "finite-differences"
    """What is made to vanish: the equation with differences in time, what a step of ETDRK4 misses
    the next snapshot by, or the equation at Chebyshev nodes of the window. Its own error is the
    floor of the refined one, unless the known snapshots are worse: 1e-5 on the shipped sample,
    which is cut off at wavenumber 13, whatever the residual. float32 snapshots that are resolved
    (every 0.2): 4e-7 for order 4 and one step of ETDRK4, 1e-8 for order 6; rounding over dt
    leaves them a relative residual of 1e-6."""
    order: Literal[2, 4, 6] | None = None
    """Order of the finite differences; 4 by default."""
    substeps: int | None = None
    """Steps of ETDRK4 between snapshots, for --residual defect; 1 by default."""
    n_nodes: int | None = None
    """Nodes of a window, for --residual collocation; five more than its snapshots by default."""
    method: Literal["newton", "lbfgs", "output-layer"] = "newton"
    """How: Newton-GMRES or L-BFGS on all coefficients, or L-BFGS on the last layer of an SFNO (the
    published way; what that layer cannot express stays)."""
    max_matvecs: int | None = None
    """Matrix-vector products of a window at most, for --method newton; 200 by default."""
    n_iterations: int | None = None
    """Iterations of a window at most, for the other methods; 200 by default."""
    rtol: float = 1e-9
    """Residual to reach, relative to the time derivative."""
    window: int | None = None
    """Refine so many snapshots at a time, from left to right; by default all at once. The model
    then predicts each window anew from the refined one before."""
    viscosity: float | None = None
    """Kinematic viscosity, if the file does not say."""
    drag: float | None = None
    """Linear drag, if the file does not say; 0 by default."""
    forcing: Literal["none", "fno", "kolmogorov"] | None = None
    """Steady forcing, if the file neither holds it nor says that there is none."""
    n_steps: int | None = None
    """Snapshots to predict; by default as many as the model was trained for."""
    n_in: int | None = None
    """Snapshots to start from; by default as many as the model was trained with."""
    n_points: int | None = None
    """Work on a grid of this many points along each axis; by default that of the data."""
    split: Literal["train", "validation", "test"] = "test"
    """Which part of the data, if the file has parts."""
    n_samples: int | None = None
    """Refine the first trajectories only."""
    figure: Path | None = None
    """Draw the refinement of the first trajectory into this file (.png, .pdf or .svg)."""
    overwrite: bool = False
    """Replace what is at --out."""

    def run(self) -> None:
        """Write the refined forecasts and print the table; fail if a tolerance is missed."""
        from ._refine_job import run_refinement

        run_refinement(self)
