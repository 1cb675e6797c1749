"""Layer 3: fit any Equinox model on any source of batches, with a log, checkpoints and resume."""

from ._batches import BatchSource as BatchSource
from ._fit import fit as fit
from ._losses import ForecastLoss as ForecastLoss
from ._losses import forecast_loss as forecast_loss
from ._losses import spectral_loss as spectral_loss
from ._metrics import read_metrics as read_metrics
from ._optimizers import one_cycle_adam as one_cycle_adam
from ._optimizers import one_cycle_schedule as one_cycle_schedule
