"""Layer 4: neural operators that forecast fields, roll-outs and the baselines they must beat."""

from ._baselines import Persistence as Persistence
from ._baselines import SolverForecaster as SolverForecaster
from ._collocation_residual import CollocationResidual as CollocationResidual
from ._estimate import ErrorEstimate as ErrorEstimate
from ._estimate import estimate as estimate
from ._evaluate import ForecastScore as ForecastScore
from ._evaluate import evaluate as evaluate
from ._finite_difference_residual import FiniteDifferenceResidual as FiniteDifferenceResidual
from ._fno import FNO as FNO
from ._fno_forecasters import AutoregressiveFNO as AutoregressiveFNO
from ._fno_forecasters import SpaceTimeFNO as SpaceTimeFNO
from ._forecaster import AbstractForecaster as AbstractForecaster
from ._lbfgs import LBFGS as LBFGS
from ._lbfgs import OutputLayerLBFGS as OutputLayerLBFGS
from ._newton_gmres import NewtonGMRES as NewtonGMRES
from ._refine import refine as refine
from ._refinement_method import AbstractRefinementMethod as AbstractRefinementMethod
from ._residual_loss import ResidualLoss as ResidualLoss
from ._rollout import rollout as rollout
from ._sfno import SFNO as SFNO
from ._sfno import SpatiotemporalFNO as SpatiotemporalFNO
from ._solver_defect_residual import SolverDefectResidual as SolverDefectResidual
from ._time_residual import AbstractTimeResidual as AbstractTimeResidual
