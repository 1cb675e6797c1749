"""One battery on everything that the packages export: what is added to an ``__init__`` is tested.

Modules are built under `jax.eval_shape`, that is without numbers: the contracts are about
structure.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optimistix as optx
import pytest
import scipy.sparse

import sciml
from sciml import (
    constraints,
    data,
    graph_solvers,
    linear_solvers,
    natural_gradient,
    neural_de,
    neural_operators,
    nn,
    numerics,
    problems,
    train,
)
from sciml.core import Solution, citation

# Packages with a small import; the command line is a program, not an API.
_PACKAGES = [
    f"sciml.{module.name}"
    for module in pkgutil.iter_modules(sciml.__path__)
    if module.ispkg and module.name != "cli"
]


def _public() -> dict[str, Any]:
    """Return the classes and functions of sciml by public name; constants are left out."""
    found = {}
    for package in _PACKAGES:
        module = importlib.import_module(package)
        for name in dir(module):  # some load on first use
            value = getattr(module, name)
            is_api = inspect.isclass(value) or inspect.isfunction(value)
            if is_api and not name.startswith("_") and value.__module__.startswith("sciml."):
                found[f"{package}.{name}"] = value
    return found


PUBLIC = _public()
CLASSES = {name: value for name, value in PUBLIC.items() if inspect.isclass(value)}
MODULES = {name: cls for name, cls in CLASSES.items() if issubclass(cls, eqx.Module)}

# Bases without methods, which Python cannot call abstract: what a boundary condition means is
# decided where the matrix is assembled.
MARKERS = (problems.AbstractBoundary,)
# Prepared forms of another object, which keep what they computed and not what they came from:
# save that other object.
DERIVED = (numerics.UnrolledStencil,)


def _is_abstract(cls: type) -> bool:
    return inspect.isabstract(cls) or cls in MARKERS


CONCRETE = {name: cls for name, cls in MODULES.items() if not _is_abstract(cls)}


def _stencil() -> numerics.StencilOperator:
    return problems.diffusion_operator((8, 6))


def _graph() -> numerics.Graph:
    return numerics.Graph.from_arrays(np.ones((2, 1)), np.ones((1, 1)), [0], [1])


def _sensors() -> neural_operators.PointSensors:
    return neural_operators.PointSensors.every((8,), 4)


def _bandit() -> linear_solvers.TsallisINF:
    return linear_solvers.TsallisINF((1.0, 1.5))


def _poisson() -> natural_gradient.PoissonData:
    x, w = jnp.zeros((4, 2)), jnp.ones(4)
    return natural_gradient.PoissonData(x, w, x, w, w, w)


def _constraint() -> constraints.HardConstraint:
    basis = constraints.CoordinateBasis(lambda x, p: jnp.stack([x[0], x[1]]))
    return constraints.HardConstraint(
        basis, [constraints.Residual(lambda jet, x, p: jet["u"] - 1, ("u",))]
    )


def _particles() -> data.ParticleNormaliser:
    return data.ParticleNormaliser((0, 0), (1, 1), (0, -9.8), (3, 3), dt=0.01)


_BOX = ((0.0, 1.0), (0.0, 1.0))


def _material_points() -> problems.MaterialPointMethod:
    return problems.MaterialPointMethod([problems.Water()], cell_size=0.25, bounds=_BOX)


def _experts() -> constraints.Experts:
    router = constraints.BoxRouter((0.0, 0.0), (1.0, 1.0), (1, 2))
    return constraints.Experts(_constraint(), router)


# How to build each concrete module in its smallest form.
BUILDERS: dict[type, Callable[[jax.Array], eqx.Module]] = {
    Solution: lambda key: Solution(jnp.zeros(2), sciml.core.RESULTS.successful, {}),
    constraints.BoxRouter: lambda key: constraints.BoxRouter((0.0,), (1.0,), (2,)),
    constraints.ConstrainedField: lambda key: _constraint()(None, {"pde": jnp.ones((3, 2))}),
    constraints.CoordinateBasis: lambda key: _constraint().basis,
    constraints.DenseDirection: lambda key: constraints.DenseDirection(),
    constraints.Experts: lambda key: _experts(),
    constraints.GridBasis: lambda key: constraints.GridBasis(
        lambda p: jnp.ones((2, 4)), (4,), (1.0,), (True,), coordinates=("x",)
    ),
    constraints.HardConstraint: lambda key: _constraint(),
    constraints.ImplicitAdjoint: lambda key: constraints.ImplicitAdjoint(),
    constraints.IntegralResidual: lambda key: constraints.IntegralResidual(
        lambda jet, x, p: jet["u"], ("u",)
    ),
    constraints.KrylovDirection: lambda key: constraints.KrylovDirection(),
    constraints.LearnedRouter: lambda key: constraints.LearnedRouter(jnp.sin, 2),
    constraints.LevenbergMarquardt: lambda key: constraints.LevenbergMarquardt(),
    constraints.OptimistixLeastSquares: lambda key: constraints.OptimistixLeastSquares(
        optx.Dogleg(rtol=1e-8, atol=1e-8)
    ),
    constraints.Points: lambda key: constraints.Points(jnp.ones((3, 2))),
    constraints.RandomRouter: lambda key: constraints.RandomRouter(2),
    constraints.Residual: lambda key: _constraint().residuals[0],
    constraints.RoutedPoints: lambda key: _experts().route({"pde": jnp.ones((3, 2))}),
    constraints.SketchedDirection: lambda key: constraints.SketchedDirection(),
    constraints.TreeRouter: lambda key: constraints.TreeRouter([[0.0]], [[1.0]]),
    data.FlowNormaliser: lambda key: data.FlowNormaliser(("travel",), (0.0,), (1.0,), 1.0),
    data.GaussianNormaliser: lambda key: data.GaussianNormaliser((1.0,), (2.0,)),
    data.IdentityNormaliser: lambda key: data.IdentityNormaliser(),
    data.ParticleNormaliser: lambda key: _particles(),
    data.VorticitySymmetries: lambda key: data.VorticitySymmetries.for_fno_forcing(),
    graph_solvers.AndersonSolver: lambda key: graph_solvers.AndersonSolver(),
    graph_solvers.AutoSolver: lambda key: graph_solvers.AutoSolver(),
    graph_solvers.ContractionSystem: lambda key: graph_solvers.ContractionSystem(
        jnp.ones((1, 1)), jnp.ones((2, 1)), jnp.array([0]), jnp.array([1]), jnp.asarray(0.5)
    ),
    graph_solvers.ConvergentGraphSolver: lambda key: graph_solvers.ConvergentGraphSolver(
        2, 1, 1, heads=2, hidden_channels=4, n_solves=2, key=key
    ),
    graph_solvers.DeepGraphNetwork: lambda key: graph_solvers.DeepGraphNetwork(
        2, 1, 1, n_layers=2, hidden_channels=4, key=key
    ),
    graph_solvers.DenseSolver: lambda key: graph_solvers.DenseSolver(),
    graph_solvers.GraphMapOptions: lambda key: graph_solvers.GraphMapOptions(),
    graph_solvers.ImplicitGraphNetwork: lambda key: graph_solvers.ImplicitGraphNetwork(
        2, 1, 1, hidden_channels=4, key=key
    ),
    graph_solvers.KrylovSolver: lambda key: graph_solvers.KrylovSolver(),
    graph_solvers.PicardSolver: lambda key: graph_solvers.PicardSolver(),
    linear_solvers.BinnedBandit: lambda key: linear_solvers.BinnedBandit(
        _bandit(), n_bins=2, low=0.0, high=1.0
    ),
    linear_solvers.ChebyshevBandit: lambda key: linear_solvers.ChebyshevBandit(
        (1.0, 1.5), low=0.0, high=1.0
    ),
    linear_solvers.ConjugateGradientArm: lambda key: linear_solvers.ConjugateGradientArm(),
    linear_solvers.ConstantNullspace: lambda key: linear_solvers.ConstantNullspace(
        np.array([0, 0, 1, -1])
    ),
    linear_solvers.DeepConjugateDirection: lambda key: linear_solvers.DeepConjugateDirection(
        linear_solvers.DirectionNetwork(2, hidden_channels=2, key=key), 1e-5, 0.0
    ),
    linear_solvers.DirectArm: lambda key: linear_solvers.DirectArm(),
    linear_solvers.DirectionBatch: lambda key: linear_solvers.DirectionBatch(
        _stencil(), jnp.ones((2, 8, 6))
    ),
    linear_solvers.DirectionNetwork: lambda key: linear_solvers.DirectionNetwork(
        2, n_fine_layers=2, n_coarse_layers=2, hidden_channels=4, key=key
    ),
    linear_solvers.FlexibleCG: lambda key: linear_solvers.FlexibleCG(jnp.tanh, 1e-5, 0.0),
    linear_solvers.FunctionArm: lambda key: linear_solvers.FunctionArm(linear_solvers.cg, "cg"),
    linear_solvers.IncompleteCholeskyArm: lambda key: linear_solvers.IncompleteCholeskyArm(),
    linear_solvers.InverseGapBandit: lambda key: linear_solvers.InverseGapBandit((1.0, 1.5)),
    linear_solvers.JacobiArm: lambda key: linear_solvers.JacobiArm(),
    linear_solvers.LowerBoundBandit: lambda key: linear_solvers.LowerBoundBandit((1.0, 1.5)),
    linear_solvers.MultigridPreconditioner: lambda key: linear_solvers.MultigridPreconditioner(
        _stencil(), linear_solvers.MultigridWeights(), plan=[(True, True)]
    ),
    linear_solvers.MultigridWeights: lambda key: linear_solvers.MultigridWeights(),
    linear_solvers.SmoothedAggregationArm: lambda key: linear_solvers.SmoothedAggregationArm(),
    linear_solvers.SSORArm: lambda key: linear_solvers.SSORArm(1.5),
    linear_solvers.TsallisINF: lambda key: _bandit(),
    linear_solvers.TunedSolver: lambda key: linear_solvers.TunedSolver(
        (linear_solvers.ConjugateGradientArm(), linear_solvers.SSORArm(1.5)), bandit=_bandit()
    ),
    neural_de.ErrorEstimate: lambda key: neural_de.ErrorEstimate(),
    neural_de.JacobianFrobenius: lambda key: neural_de.JacobianFrobenius(key=key),
    neural_de.KineticEnergy: lambda key: neural_de.KineticEnergy(),
    neural_de.LatentField: lambda key: neural_de.LatentField(2, 3, key=key),
    neural_de.LatentODE: lambda key: neural_de.LatentODE(1, n_latent=2, key=key),
    neural_de.LocalRegularization: lambda key: neural_de.LocalRegularization(),
    neural_de.NeuralODE: lambda key: neural_de.NeuralODE(neural_de.LatentField(2, 3, key=key)),
    neural_de.NeuralSDE: lambda key: neural_de.NeuralSDE(
        neural_de.LatentField(2, 3, key=key), neural_de.LatentField(2, 3, key=key)
    ),
    neural_de.Regularization: lambda key: neural_de.Regularization({}, jnp.zeros(())),
    neural_de.RegularizedSolver: lambda key: neural_de.RegularizedSolver(diffrax.Tsit5(), {}),
    neural_de.StepInfo: lambda key: neural_de.StepInfo(
        *(0.0, 1.0, 1.0, jnp.ones(2), jnp.ones(2), None, None, None, None, diffrax.Tsit5()),
        *(1e-3, 1e-3, None),
    ),
    neural_de.StiffnessEstimate: lambda key: neural_de.StiffnessEstimate(),
    neural_de.TargetNFE: lambda key: neural_de.TargetNFE(50.0),
    neural_de.TaylorEnergy: lambda key: neural_de.TaylorEnergy(2),
    neural_operators.AssimilationLoss: lambda key: neural_operators.AssimilationLoss(0.1),
    neural_operators.Averaging: lambda key: neural_operators.Averaging.cells((8,), (2,)),
    neural_operators.EnsembleKalmanFilter: lambda key: neural_operators.EnsembleKalmanFilter(
        jnp.tanh, _sensors(), 0.1, jnp.ones((3, 1, 8))
    ),
    neural_operators.GappyPOD: lambda key: neural_operators.GappyPOD(
        np.ones((1, 3, 2)), np.zeros((3, 2))
    ),
    neural_operators.KernelReducedOrderModel: lambda key: neural_operators.KernelReducedOrderModel(
        2, hidden_channels=2, key=key
    ),
    neural_operators.MovingLeastSquares: lambda key: neural_operators.MovingLeastSquares(),
    neural_operators.NearestSample: lambda key: neural_operators.NearestSample(),
    neural_operators.NoMotion: lambda key: neural_operators.NoMotion(),
    neural_operators.ShepardInterpolant: lambda key: neural_operators.ShepardInterpolant(),
    neural_operators.ThinPlateSpline: lambda key: neural_operators.ThinPlateSpline(),
    neural_operators.FlowStep: lambda key: neural_operators.FlowStep(jnp.tanh),
    neural_operators.FullField: lambda key: neural_operators.FullField((8,)),
    neural_operators.GatedGain: lambda key: neural_operators.GatedGain(
        1, (3,), hidden_channels=4, n_layers=1, rank=1, key=key
    ),
    neural_operators.BallisticStepper: lambda key: neural_operators.BallisticStepper(
        _particles(), _BOX, (0, -9.8)
    ),
    neural_operators.GraphInteractionStepper: lambda key: neural_operators.GraphInteractionStepper(
        _particles(), _BOX, radius=0.2, hidden_channels=4, n_layers=(1, 1), key=key
    ),
    neural_operators.GraphNetworkSimulator: lambda key: neural_operators.GraphNetworkSimulator(
        _particles(), _BOX, radius=0.2, hidden_channels=4, n_layers=1, key=key
    ),
    neural_operators.GraphNeuralOperator: lambda key: neural_operators.GraphNeuralOperator(
        3, 2, 2, hidden_channels=4, key=key
    ),
    neural_operators.InteractionOperator: lambda key: neural_operators.InteractionOperator(
        4, 5, key=key
    ),
    neural_operators.LatentGrid: lambda key: neural_operators.LatentGrid(),
    neural_operators.LatentPath: lambda key: neural_operators.LatentPath(
        neural_operators.LatentGrid((8, 8)), _BOX, True, 4, key=key
    ),
    neural_operators.ParticleLoss: lambda key: neural_operators.ParticleLoss(8),
    neural_operators.NODA: lambda key: neural_operators.NODA(jnp.tanh, _sensors(), jnp.tanh),
    neural_operators.Nudging: lambda key: neural_operators.Nudging(jnp.tanh, _sensors(), 0.5),
    neural_operators.PointSensors: lambda key: _sensors(),
    neural_operators.ResidualPredictor: lambda key: neural_operators.ResidualPredictor(jnp.tanh),
    neural_operators.SemilinearStep: lambda key: neural_operators.SemilinearStep(
        problems.KuramotoSivashinsky1D((8,)), jnp.tanh, 0.1
    ),
    neural_operators.AutoregressiveFNO: lambda key: neural_operators.AutoregressiveFNO(
        2, 3, (3, 2), hidden_channels=4, n_layers=2, context_channels=1, key=key
    ),
    neural_operators.CollocationResidual: lambda key: neural_operators.CollocationResidual(),
    neural_operators.ErrorEstimate: lambda key: neural_operators.estimate(
        jnp.ones((4, 1, 8)), jnp.ones((4, 1, 8)), problems.Burgers1D((8,), viscosity=0.1), dt=0.1
    ),
    neural_operators.FiniteDifferenceResidual: lambda key: (
        neural_operators.FiniteDifferenceResidual()
    ),
    neural_operators.LBFGS: lambda key: neural_operators.LBFGS(),
    neural_operators.NewtonGMRES: lambda key: neural_operators.NewtonGMRES(),
    neural_operators.OutputLayerLBFGS: lambda key: neural_operators.OutputLayerLBFGS(),
    neural_operators.ResidualLoss: lambda key: neural_operators.ResidualLoss(
        problems.Burgers1D((8,), viscosity=0.1), 0.1, 3
    ),
    neural_operators.SolverDefectResidual: lambda key: neural_operators.SolverDefectResidual(),
    neural_operators.FNO: lambda key: neural_operators.FNO(
        2, 3, (3, 2), hidden_channels=4, n_layers=2, periodic=(True, False), key=key
    ),
    neural_operators.Persistence: lambda key: neural_operators.Persistence(),
    neural_operators.SolverForecaster: lambda key: neural_operators.SolverForecaster(
        problems.NavierStokes2D((8, 8), viscosity=1e-3), problems.ETDRK4(), 0.1, substeps=2
    ),
    neural_operators.SpaceTimeFNO: lambda key: neural_operators.SpaceTimeFNO(
        2, 3, (2, 3, 2), hidden_channels=4, n_layers=2, key=key
    ),
    neural_operators.SpatiotemporalFNO: lambda key: neural_operators.SpatiotemporalFNO(
        2, dt=0.1, horizon=1.0, n_modes=(2, 3, 2), hidden_channels=4, latent_steps=6, key=key
    ),
    nn.AttentionMessages: lambda key: nn.AttentionMessages(2, 1, 3, 4, hidden_channels=5, key=key),
    neural_operators.KeepEnergy: lambda key: neural_operators.KeepEnergy(0.5),
    neural_operators.HighBandCorrection: lambda key: neural_operators.HighBandCorrection(
        neural_operators.TransformOnce(1, 1, numerics.CosineBasis((3,)), key=key),
        *(1, (True,)),
        key=key,
    ),
    neural_operators.SpectralHead: lambda key: neural_operators.SpectralHead(2, 1, 3, key=key),
    neural_operators.SpectralLift: lambda key: neural_operators.SpectralLift(
        2, 3, numerics.CosineBasis((4, 3)), key=key
    ),
    neural_operators.TransformOnceForecaster: lambda key: neural_operators.TransformOnceForecaster(
        *(1, 2, 3, numerics.FourierBasis((3,))), hidden_channels=2, n_layers=1, key=key
    ),
    neural_operators.TransformOnceUNet: lambda key: neural_operators.TransformOnceUNet(
        1, 1, numerics.CosineBasis((4, 3)), hidden_channels=2, n_levels=1, key=key
    ),
    neural_operators.TransformOnce: lambda key: neural_operators.TransformOnce(
        2, 1, numerics.CosineBasis((4, 3)), hidden_channels=4, n_layers=2, key=key
    ),
    neural_operators.TransformOnceBlock: lambda key: neural_operators.TransformOnceBlock(
        3, numerics.CosineBasis((4, 2)), key=key
    ),
    neural_operators.VariancePreserving: lambda key: neural_operators.VariancePreserving((8, 8)),
    nn.ChannelLinear: lambda key: nn.ChannelLinear(2, 3, key=key),
    nn.ChannelMLP: lambda key: nn.ChannelMLP(2, 3, 4, key=key),
    nn.Convolution: lambda key: nn.Convolution(2, 3, 3, (True, False), key=key),
    nn.FourierLayer: lambda key: nn.FourierLayer(3, (3, 2), 4, key=key),
    nn.PointMLP: lambda key: nn.PointMLP((2, 4, 3), normalise=True, key=key),
    nn.SpectralConv: lambda key: nn.SpectralConv(2, 3, (3, 2), key=key),
    nn.UNet: lambda key: nn.UNet(2, 1, (True, False), hidden_channels=2, n_levels=1, key=key),
    numerics.CosineBasis: lambda key: numerics.CosineBasis((4, 3)),
    numerics.FourierBasis: lambda key: numerics.FourierBasis((4, 3)),
    numerics.Graph: lambda key: _graph(),
    numerics.MatrixBasis: lambda key: numerics.MatrixBasis(np.ones((1, 4))),
    numerics.Neighbours: lambda key: numerics.Neighbours(
        jnp.zeros((2, 3), int), jnp.zeros((2, 3), bool), jnp.zeros((), int)
    ),
    numerics.SineBasis: lambda key: numerics.SineBasis((4, 3)),
    numerics.SparseMatrix: lambda key: numerics.SparseMatrix.from_scipy(
        scipy.sparse.csr_array([[4.0, -1.0], [-1.0, 4.0]])
    ),
    numerics.StencilOperator: lambda key: _stencil(),
    numerics.UnrolledStencil: lambda key: numerics.UnrolledStencil(_stencil()),
    problems.ElasticSolid: lambda key: problems.ElasticSolid(),
    problems.MaterialPointMethod: lambda key: _material_points(),
    problems.ParticleState: lambda key: _material_points().state(np.full((1, 2), 0.5), spacing=0.1),
    problems.Sand: lambda key: problems.Sand(),
    problems.Water: lambda key: problems.Water(),
    problems.AllenCahn: lambda key: problems.AllenCahn((8,), interface_width=0.1),
    problems.Burgers1D: lambda key: problems.Burgers1D((8,), viscosity=0.1),
    problems.Chain: lambda key: problems.Chain(_graph(), 1),
    problems.GraphHeat: lambda key: problems.GraphHeat(
        _graph(), np.zeros(2), np.zeros(2), np.zeros((2, 2)), 1.0
    ),
    problems.MarkovDecisionProcess: lambda key: problems.MarkovDecisionProcess(
        _graph(), np.zeros(2), np.zeros((2, 1)), np.array([[1], [0]]), 0.9
    ),
    problems.PoreNetwork: lambda key: problems.PoreNetwork(
        _graph(), np.zeros(2), np.ones(2, bool), np.zeros((2, 3)), np.array([[0, 1]]), np.ones(1)
    ),
    problems.KuramotoSivashinsky1D: lambda key: problems.KuramotoSivashinsky1D((8,)),
    problems.ChannelFlow: lambda key: problems.ChannelFlow(
        (9, 9), viscosity=0.1, obstacle=problems.Disc((0.5, 1.0), 0.2)
    ),
    problems.Disc: lambda key: problems.Disc((0.5, 1.0), 0.2),
    problems.KortewegDeVries1D: lambda key: problems.KortewegDeVries1D((8,)),
    problems.LidDrivenCavity: lambda key: problems.LidDrivenCavity((9, 9), viscosity=0.1),
    problems.Dirichlet: lambda key: problems.Dirichlet(1.0),
    problems.ETDRK4: lambda key: problems.ETDRK4(),
    problems.IMEXCrankNicolson: lambda key: problems.IMEXCrankNicolson(),
    problems.NavierStokes2D: lambda key: problems.NavierStokes2D((8, 6), viscosity=1e-3),
    problems.Neumann: lambda key: problems.Neumann(1.0),
    problems.Periodic: lambda key: problems.Periodic(),
    problems.RK4CrankNicolson: lambda key: problems.RK4CrankNicolson(),
    natural_gradient.AdamsBashforth: lambda key: natural_gradient.AdamsBashforth(),
    natural_gradient.BackwardDifferentiation: lambda key: (
        natural_gradient.BackwardDifferentiation()
    ),
    natural_gradient.BoundaryAnsatz: lambda key: natural_gradient.BoundaryAnsatz(
        natural_gradient.PeriodicMLP(1, width=2, key=key), lambda x: x[0]
    ),
    natural_gradient.CollocationPoints: lambda key: natural_gradient.CollocationPoints.grid(2, 1),
    natural_gradient.DampedGaussNewton: lambda key: natural_gradient.DampedGaussNewton(),
    natural_gradient.DiagonallyImplicit: lambda key: natural_gradient.DiagonallyImplicit(),
    natural_gradient.Explicit: lambda key: natural_gradient.Explicit(),
    natural_gradient.ForwardEuler: lambda key: natural_gradient.ForwardEuler(),
    natural_gradient.ImplicitExplicit: lambda key: natural_gradient.ImplicitExplicit(jnp.sum),
    natural_gradient.ImplicitMidpoint: lambda key: natural_gradient.ImplicitMidpoint(),
    natural_gradient.PeriodicMLP: lambda key: natural_gradient.PeriodicMLP(1, width=2, key=key),
    natural_gradient.RandomPoints: lambda key: natural_gradient.RandomPoints(2, 1),
    natural_gradient.RandomSubsets: lambda key: natural_gradient.RandomSubsets(2),
    natural_gradient.SoftBoundary: lambda key: natural_gradient.SoftBoundary(
        jnp.zeros((1, 1)), jnp.ones(1)
    ),
    natural_gradient.DeepGalerkinLoss: lambda key: natural_gradient.DeepGalerkinLoss(_poisson()),
    natural_gradient.DeepRitzLoss: lambda key: natural_gradient.DeepRitzLoss(_poisson()),
    natural_gradient.EnergyNaturalGradient: lambda key: natural_gradient.EnergyNaturalGradient(),
    natural_gradient.GradientMethod: lambda key: natural_gradient.GradientMethod(optax.sgd(0.1)),
    natural_gradient.OrnsteinUhlenbeckSolver: lambda key: natural_gradient.OrnsteinUhlenbeckSolver(
        1.0
    ),
    natural_gradient.PoissonData: lambda key: _poisson(),
    natural_gradient.ResidualTerm: lambda key: natural_gradient.ResidualTerm(
        lambda u, x: u(x), jnp.zeros((4, 2)), jnp.ones(4)
    ),
    natural_gradient.RoughnessResult: lambda key: natural_gradient.roughness_index(
        jnp.sum, jnp.ones(3), key=key, n_directions=2, n_points=3, throw=False
    ),
    train.ForecastLoss: lambda key: train.ForecastLoss(),
}


def each(objects: dict[str, Any], name: str):
    # An alias (SFNO) is the same object as the full name: one test is enough.
    unique = {id(value): (label, value) for label, value in reversed(objects.items())}
    return pytest.mark.parametrize(
        name, [pytest.param(value, id=label) for label, value in reversed(unique.values())]
    )


def _build(cls: type) -> Any:
    module = eqx.filter_eval_shape(BUILDERS[cls], jax.random.key(7919))
    assert type(module) is cls
    return module


def _parameters(function: Callable[..., Any]) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


def test_the_battery_sees_the_packages():
    assert {"sciml.core", "sciml.data", "sciml.neural_operators"} <= set(_PACKAGES)
    assert {"sciml.neural_operators.FNO", "sciml.problems.ETDRK4"} <= set(CONCRETE)
    missing = sorted(name for name, cls in CONCRETE.items() if cls not in BUILDERS)
    assert not missing, f"add a way to build {missing} to BUILDERS"


@each(MODULES, "cls")
def test_a_module_is_abstract_or_final(cls):
    assert cls.__name__.startswith("Abstract") == _is_abstract(cls)
    for base in cls.__mro__[1:]:
        if base.__module__.startswith("sciml."):
            assert _is_abstract(base), f"{cls.__name__} derives from a concrete class"


@each(CONCRETE, "cls")
def test_constructor_arguments_are_kept(cls):
    """The convention by which `sciml.save` rebuilds a module."""
    module = _build(cls)
    kept = [name for name in _parameters(cls.__init__) if name != "key"]
    if cls not in DERIVED:
        assert [name for name in kept if not hasattr(module, name)] == []
    kinds = [p.kind for p in inspect.signature(cls.__init__).parameters.values()]
    assert inspect.Parameter.VAR_KEYWORD not in kinds
    assert inspect.Parameter.VAR_POSITIONAL not in kinds


@each(CONCRETE, "cls")
def test_no_complex_leaves_and_a_repr(cls):
    module = _build(cls)
    for leaf in jax.tree.leaves(module):
        if hasattr(leaf, "dtype"):
            assert not jnp.issubdtype(leaf.dtype, jnp.complexfloating)
    assert cls.__name__ in repr(module)


@each(CONCRETE, "cls")
def test_a_key_is_keyword_only(cls):
    key = inspect.signature(cls.__init__).parameters.get("key")
    assert key is None or key.kind is inspect.Parameter.KEYWORD_ONLY


@each(CONCRETE, "cls")
def test_every_method_can_be_cited(cls):
    ours = (neural_operators.Persistence, neural_operators.SolverForecaster)
    is_method = issubclass(cls, neural_operators.AbstractForecaster | problems.AbstractStepper)
    if is_method and cls not in ours:
        assert citation(cls).startswith("@")
