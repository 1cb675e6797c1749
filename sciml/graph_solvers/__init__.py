"""Layer 4: graph networks that solve for the fixed point of a contraction."""

from ._contraction_solvers import AbstractContractionSolver as AbstractContractionSolver
from ._contraction_solvers import AndersonSolver as AndersonSolver
from ._contraction_solvers import AutoSolver as AutoSolver
from ._contraction_solvers import DenseSolver as DenseSolver
from ._contraction_solvers import KrylovSolver as KrylovSolver
from ._contraction_solvers import PicardSolver as PicardSolver
from ._solve_contraction import solve_contraction as solve_contraction
from ._system import ContractionSystem as ContractionSystem
