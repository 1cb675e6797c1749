"""Layer 4: neural operators that forecast fields, roll-outs and the baselines they must beat."""

from ._assimilation import NODA as NODA
from ._assimilation import AbstractAssimilator as AbstractAssimilator
from ._assimilation import AbstractObservation as AbstractObservation
from ._assimilation import AssimilationLoss as AssimilationLoss
from ._assimilation import Averaging as Averaging
from ._assimilation import EnKF as EnKF
from ._assimilation import EnsembleKalmanFilter as EnsembleKalmanFilter
from ._assimilation import FullField as FullField
from ._assimilation import GatedGain as GatedGain
from ._assimilation import Nudging as Nudging
from ._assimilation import PointSensors as PointSensors
from ._assimilation import ResidualPredictor as ResidualPredictor
from ._assimilation import SemilinearStep as SemilinearStep
from ._assimilation import simulate_measurements as simulate_measurements
from ._baselines import Persistence as Persistence
from ._baselines import SolverForecaster as SolverForecaster
from ._evaluate import ForecastScore as ForecastScore
from ._evaluate import evaluate as evaluate
from ._flow_step import FlowStep as FlowStep
from ._flow_step import flow_loss as flow_loss
from ._flow_step import rollout_flow as rollout_flow
from ._fno import FNO as FNO
from ._fno_forecasters import AutoregressiveFNO as AutoregressiveFNO
from ._fno_forecasters import SpaceTimeFNO as SpaceTimeFNO
from ._forecaster import AbstractForecaster as AbstractForecaster
from ._frequency_block import ModeMixing as ModeMixing
from ._frequency_block import TransformOnceBlock as TransformOnceBlock
from ._high_band import HighBandCorrection as HighBandCorrection
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
from ._spectral_ends import SpectralHead as SpectralHead
from ._spectral_ends import SpectralLift as SpectralLift
from ._spectral_initialisation import (
    AbstractSpectralInitialisation as AbstractSpectralInitialisation,
)
from ._spectral_initialisation import KeepEnergy as KeepEnergy
from ._spectral_initialisation import VariancePreserving as VariancePreserving
from ._spectral_operator import AbstractSpectralOperator as AbstractSpectralOperator
from ._transform_once import T1 as T1
from ._transform_once import TransformOnce as TransformOnce
from ._transform_once_forecaster import TransformOnceForecaster as TransformOnceForecaster
from ._transform_once_unet import T1U as T1U
from ._transform_once_unet import TransformOnceUNet as TransformOnceUNet
