"""Layer 2: equations with known answers, their steppers, initial fields and forcings."""

from ._etdrk4 import ETDRK4 as ETDRK4
from ._forcing import fno_forcing as fno_forcing
from ._forcing import kolmogorov_forcing as kolmogorov_forcing
from ._imex_crank_nicolson import IMEXCrankNicolson as IMEXCrankNicolson
from ._navier_stokes import ConvectionForm as ConvectionForm
from ._navier_stokes import NavierStokes2D as NavierStokes2D
from ._random_fields import AmplitudeConvention as AmplitudeConvention
from ._random_fields import gaussian_random_field as gaussian_random_field
from ._rk4_crank_nicolson import RK4CrankNicolson as RK4CrankNicolson
from ._semilinear import AbstractSemilinearPDE as AbstractSemilinearPDE
from ._solve import solve as solve
from ._stepper import AbstractStepper as AbstractStepper
from ._taylor_green import taylor_green_vorticity as taylor_green_vorticity
from ._vortices import kolmogorov_vorticity as kolmogorov_vorticity
from ._vortices import mcwilliams_vorticity as mcwilliams_vorticity
