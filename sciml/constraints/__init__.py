"""Layer 4: hard constraints with mixtures of experts, implicit derivatives, constrained Newton."""

from ._least_squares._implicit_adjoint import HessianForm as HessianForm
from ._least_squares._implicit_adjoint import ImplicitAdjoint as ImplicitAdjoint
from ._least_squares._implicit_adjoint import OnFailure as OnFailure
from ._least_squares._least_squares import least_squares as least_squares
from ._least_squares._levenberg_marquardt import LevenbergMarquardt as LevenbergMarquardt
from ._least_squares._optimistix import OptimistixLeastSquares as OptimistixLeastSquares
from ._least_squares._rows import NormalForm as NormalForm
from ._least_squares._solver import AbstractLeastSquaresSolver as AbstractLeastSquaresSolver
from ._implicit import implicit_fixed_point as implicit_fixed_point
from ._implicit import implicit_minimum as implicit_minimum
from ._implicit import implicit_root as implicit_root
