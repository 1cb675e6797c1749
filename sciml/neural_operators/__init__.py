"""Layer 4: neural operators that forecast fields, roll-outs and the baselines they must beat.

Models of fields load with the package, models of particles (GIOROM, the kernel reduced-order model)
on first use: nobody waits for what he does not need.
"""

import importlib
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from ._full_order import AbstractInterpolant as AbstractInterpolant
    from ._full_order import CandidateBatch as CandidateBatch
    from ._full_order import CandidateBatches as CandidateBatches
    from ._full_order import GappyPOD as GappyPOD
    from ._full_order import KernelReducedOrderModel as KernelReducedOrderModel
    from ._full_order import KernelROM as KernelROM
    from ._full_order import MovingLeastSquares as MovingLeastSquares
    from ._full_order import NearestSample as NearestSample
    from ._full_order import NoMotion as NoMotion
    from ._full_order import ShepardInterpolant as ShepardInterpolant
    from ._full_order import ThinPlateSpline as ThinPlateSpline
    from ._full_order import full_order_loss as full_order_loss
    from ._full_order import train_full_order as train_full_order
    from ._giorom import GIOROM as GIOROM
    from ._giorom import GNS as GNS
    from ._giorom import AbstractParticleStepper as AbstractParticleStepper
    from ._giorom import BallisticStepper as BallisticStepper
    from ._giorom import GraphInteractionStepper as GraphInteractionStepper
    from ._giorom import GraphNetworkSimulator as GraphNetworkSimulator
    from ._giorom import GraphNeuralOperator as GraphNeuralOperator
    from ._giorom import InteractionOperator as InteractionOperator
    from ._giorom import KernelKind as KernelKind
    from ._giorom import LatentGrid as LatentGrid
    from ._giorom import LatentPath as LatentPath
    from ._giorom import ParticleLoss as ParticleLoss
    from ._giorom import ParticleScore as ParticleScore
    from ._giorom import evaluate_particles as evaluate_particles
    from ._giorom import random_walk_noise as random_walk_noise
    from ._giorom import rollout_particles as rollout_particles

_ON_FIRST_USE = {
    "_full_order": (
        "AbstractInterpolant",
        "CandidateBatch",
        "CandidateBatches",
        "GappyPOD",
        "KernelReducedOrderModel",
        "KernelROM",
        "MovingLeastSquares",
        "NearestSample",
        "NoMotion",
        "ShepardInterpolant",
        "ThinPlateSpline",
        "full_order_loss",
        "train_full_order",
    ),
    "_giorom": (
        "GIOROM",
        "GNS",
        "AbstractParticleStepper",
        "BallisticStepper",
        "GraphInteractionStepper",
        "GraphNetworkSimulator",
        "GraphNeuralOperator",
        "InteractionOperator",
        "KernelKind",
        "LatentGrid",
        "LatentPath",
        "ParticleLoss",
        "ParticleScore",
        "evaluate_particles",
        "random_walk_noise",
        "rollout_particles",
    ),
}


def __getattr__(name: str) -> Any:
    for module, names in _ON_FIRST_USE.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module 'sciml.neural_operators' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *(name for names in _ON_FIRST_USE.values() for name in names)])
