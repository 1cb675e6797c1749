"""Data assimilation: follow a system by a model and by sparse, noisy measurements.

Read `_assimilator` first: the recursion that all methods share. `_noda` and its parts
(`_residual_predictor` or `_semilinear_step`, `_gated_gain`) are learned; `_nudging` and
`_ensemble_kalman` are the classical rivals. `_observation` and what implements it say what is
measured, `_assimilation_loss` how to train.
"""

from ._assimilation_loss import AssimilationLoss as AssimilationLoss
from ._assimilation_loss import simulate_measurements as simulate_measurements
from ._assimilator import AbstractAssimilator as AbstractAssimilator
from ._averaging import Averaging as Averaging
from ._ensemble_kalman import EnKF as EnKF
from ._ensemble_kalman import EnsembleKalmanFilter as EnsembleKalmanFilter
from ._full_field import FullField as FullField
from ._gated_gain import GatedGain as GatedGain
from ._noda import NODA as NODA
from ._nudging import Nudging as Nudging
from ._observation import AbstractObservation as AbstractObservation
from ._point_sensors import PointSensors as PointSensors
from ._residual_predictor import ResidualPredictor as ResidualPredictor
from ._semilinear_step import SemilinearStep as SemilinearStep
