"""Layer 4: neural differential equations whose training makes them cheap to solve."""

from ._checks import Regularization as Regularization
from ._error_estimate import ErrorEstimate as ErrorEstimate
from ._initial_step import initial_step as initial_step
from ._regularized_solve import regularized_solve as regularized_solve
from ._regularized_solver import RegularizedSolver as RegularizedSolver
from ._step_regularizer import AbstractStepRegularizer as AbstractStepRegularizer
from ._step_regularizer import Reduction as Reduction
from ._step_regularizer import StepInfo as StepInfo
from ._step_regularizer import StepWeight as StepWeight
from ._stiffness_estimate import StiffnessEstimate as StiffnessEstimate
from ._stiffness_estimate import StiffnessMethod as StiffnessMethod
