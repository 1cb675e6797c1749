"""Layer 4: graph networks that solve for the fixed point of a contraction."""

from ._baselines import DeepGraphNetwork as DeepGraphNetwork
from ._baselines import ImplicitGraphNetwork as ImplicitGraphNetwork
from ._contraction_solvers import AbstractContractionSolver as AbstractContractionSolver
from ._contraction_solvers import AndersonSolver as AndersonSolver
from ._contraction_solvers import AutoSolver as AutoSolver
from ._contraction_solvers import DenseSolver as DenseSolver
from ._contraction_solvers import KrylovSolver as KrylovSolver
from ._contraction_solvers import PicardSolver as PicardSolver
from ._convergent_graph_solver import ConvergentGraphSolver as ConvergentGraphSolver
from ._convergent_graph_solver import GraphMapOptions as GraphMapOptions
from ._diffusion_solve import diffusion_solve as diffusion_solve
from ._rows import Aggregation as Aggregation
from ._rows import FactorKind as FactorKind
from ._rows import MessageDirection as MessageDirection
from ._rows import Readout as Readout
from ._rows import RowNormaliser as RowNormaliser
from ._rows import contraction_rows as contraction_rows
from ._solve_contraction import solve_contraction as solve_contraction
from ._solve_max_contraction import solve_max_contraction as solve_max_contraction
from ._system import ContractionSystem as ContractionSystem
