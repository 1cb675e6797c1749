"""Layer 4: neural operators that forecast fields, roll-outs and the baselines they must beat."""

from ._baselines import Persistence as Persistence
from ._baselines import SolverForecaster as SolverForecaster
from ._evaluate import ForecastScore as ForecastScore
from ._evaluate import evaluate as evaluate
from ._fno import FNO as FNO
from ._fno_forecasters import AutoregressiveFNO as AutoregressiveFNO
from ._fno_forecasters import SpaceTimeFNO as SpaceTimeFNO
from ._forecaster import AbstractForecaster as AbstractForecaster
from ._rollout import rollout as rollout
from ._sfno import SFNO as SFNO
from ._sfno import SpatiotemporalFNO as SpatiotemporalFNO
