"""Layer 4: learned preconditioners and conjugate-direction solvers for symmetric systems."""

from ._algebraic_multigrid import (
    AlgebraicMultigridPreconditioner as AlgebraicMultigridPreconditioner,
)
from ._algebraic_multigrid import algebraic_weights as algebraic_weights
from ._aspreconditioner import aspreconditioner as aspreconditioner
from ._bandit import AbstractBandit as AbstractBandit
from ._binned_bandit import BinnedBandit as BinnedBandit
from ._cg import cg as cg
from ._chebyshev_bandit import ChebyshevBandit as ChebyshevBandit
from ._conjugate_directions import conjugate_directions as conjugate_directions
from ._conjugate_gradient import conjugate_gradient as conjugate_gradient
from ._dcdm import dcdm as dcdm
from ._direction_network import DirectionNetwork as DirectionNetwork
from ._direction_training import DirectionBatch as DirectionBatch
from ._direction_training import DirectionBatches as DirectionBatches
from ._direction_training import direction_loss as direction_loss
from ._direction_training import fit_direction as fit_direction
from ._direction_training import solve_residuals as solve_residuals
from ._fit_algebraic import fit_algebraic_preconditioner as fit_algebraic_preconditioner
from ._fit_preconditioner import fit_preconditioner as fit_preconditioner
from ._fit_preconditioner import mean_iterations as mean_iterations
from ._flexible_cg import flexible_conjugate_gradient as flexible_conjugate_gradient
from ._inverse_gap_bandit import InverseGapBandit as InverseGapBandit
from ._linearity_probe import linearity_defects as linearity_defects
from ._lineax import DeepConjugateDirection as DeepConjugateDirection
from ._lineax import FlexibleCG as FlexibleCG
from ._lower_bound_bandit import LowerBoundBandit as LowerBoundBandit
from ._multigrid import MultigridPreconditioner as MultigridPreconditioner
from ._multigrid_weights import MultigridWeights as MultigridWeights
from ._multigrid_weights import trained_weights as trained_weights
from ._nullspace import ConstantNullspace as ConstantNullspace
from ._nullspace import constant_components as constant_components
from ._preconditioner_operator import PreconditionerOperator as PreconditionerOperator
from ._ritz import ritz_pairs as ritz_pairs
from ._ritz import ritz_rhs as ritz_rhs
from ._solver_arms import AbstractSolverArm as AbstractSolverArm
from ._solver_arms import ConjugateGradientArm as ConjugateGradientArm
from ._solver_arms import DirectArm as DirectArm
from ._solver_arms import FunctionArm as FunctionArm
from ._solver_arms import IncompleteCholeskyArm as IncompleteCholeskyArm
from ._solver_arms import JacobiArm as JacobiArm
from ._solver_arms import SmoothedAggregationArm as SmoothedAggregationArm
from ._solver_arms import SSORArm as SSORArm
from ._sor import sor as sor
from ._sor import ssor_preconditioner as ssor_preconditioner
from ._sor import young_omega as young_omega
from ._tsallis_inf import TsallisINF as TsallisINF
from ._tuned_solver import SolveCost as SolveCost
from ._tuned_solver import TunedSolver as TunedSolver
