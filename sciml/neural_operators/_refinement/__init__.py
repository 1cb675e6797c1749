"""A posteriori: how wrong a forecast of a known equation is, and how to make it solve the equation.

Read `_space_time_system` first: the unknowns, their norms and the equation in space and time. The
residuals (`_time_residual` and those that implement it) say what the equation asks of snapshots;
the methods (`_refinement_method` and those that implement it) make a residual small; `_refine` and
`_estimate` are the front doors.
"""

from ._collocation_residual import CollocationResidual as CollocationResidual
from ._estimate import ErrorEstimate as ErrorEstimate
from ._estimate import estimate as estimate
from ._finite_difference_residual import (
    FiniteDifferenceResidual as FiniteDifferenceResidual,
)
from ._lbfgs import LBFGS as LBFGS
from ._lbfgs import OutputLayerLBFGS as OutputLayerLBFGS
from ._newton_gmres import NewtonGMRES as NewtonGMRES
from ._refine import refine as refine
from ._refinement_method import AbstractRefinementMethod as AbstractRefinementMethod
from ._residual_loss import ResidualLoss as ResidualLoss
from ._solver_defect_residual import SolverDefectResidual as SolverDefectResidual
from ._time_residual import AbstractTimeResidual as AbstractTimeResidual
