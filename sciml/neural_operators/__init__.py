"""Layer 4: neural operators that forecast fields, roll-outs and the baselines they must beat."""

from ._baselines import Persistence as Persistence
from ._baselines import SolverForecaster as SolverForecaster
from ._evaluate import ForecastScore as ForecastScore
from ._evaluate import evaluate as evaluate
from ._fno import FNO as FNO
from ._fno_forecasters import AutoregressiveFNO as AutoregressiveFNO
from ._fno_forecasters import SpaceTimeFNO as SpaceTimeFNO
from ._forecaster import AbstractForecaster as AbstractForecaster
from ._refinement import LBFGS as LBFGS
from ._refinement import AbstractRefinementMethod as AbstractRefinementMethod
from ._refinement import AbstractTimeResidual as AbstractTimeResidual
from ._refinement import CollocationResidual as CollocationResidual
from ._refinement import ErrorEstimate as ErrorEstimate
from ._refinement import FiniteDifferenceResidual as FiniteDifferenceResidual
from ._refinement import NewtonGMRES as NewtonGMRES
from ._refinement import OutputLayerLBFGS as OutputLayerLBFGS
from ._refinement import ResidualLoss as ResidualLoss
from ._refinement import SolverDefectResidual as SolverDefectResidual
from ._refinement import estimate as estimate
from ._refinement import refine as refine
from ._rollout import rollout as rollout
from ._sfno import SFNO as SFNO
from ._sfno import SpatiotemporalFNO as SpatiotemporalFNO
