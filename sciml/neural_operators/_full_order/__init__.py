"""Evaluation at full order: many points follow a few samples, and the classical rivals."""

from ._classical_interpolants import AbstractInterpolant as AbstractInterpolant
from ._classical_interpolants import MovingLeastSquares as MovingLeastSquares
from ._classical_interpolants import NearestSample as NearestSample
from ._classical_interpolants import NoMotion as NoMotion
from ._classical_interpolants import ShepardInterpolant as ShepardInterpolant
from ._classical_interpolants import ThinPlateSpline as ThinPlateSpline
from ._full_order_training import CandidateBatch as CandidateBatch
from ._full_order_training import CandidateBatches as CandidateBatches
from ._full_order_training import full_order_loss as full_order_loss
from ._full_order_training import train_full_order as train_full_order
from ._gappy_pod import GappyPOD as GappyPOD
from ._kernel_reduced_order_model import KernelReducedOrderModel as KernelReducedOrderModel
from ._kernel_reduced_order_model import KernelROM as KernelROM
