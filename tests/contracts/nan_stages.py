"""A NaN in data, weights, operators and preconditioners: how each is reported."""

import tempfile
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.io
import scipy.sparse
import scipy.sparse.linalg

from sciml import (
    constraints,
    data,
    graph_solvers,
    linear_solvers,
    natural_gradient,
    neural_de,
    neural_operators,
    numerics,
    problems,
    train,
)

from .nan_report import (
    KEY,
    NAN,
    NoEffect,
    at,
    dataset_of,
    line_layer,
    line_points,
    poisoned,
    short_march,
    small_fno,
    values,
    with_nan,
)

# -- data


@at("data", "array of a dataset")
def _() -> Any:
    return dataset_of(with_nan(values()))


@at("data", "MATLAB file")
def _() -> Any:
    path = Path(tempfile.mkdtemp()) / "a.mat"
    scipy.io.savemat(path, {"u": with_nan(np.ones((3, 8, 8, 4))), "a": np.ones((3, 8, 8))})
    return data.load(path, dt=0.1, domain_extent=1.0)


@at("data", "particle positions")
def _() -> Any:
    return data.Trajectory.from_array(with_nan(np.zeros((2, 3, 2))), dt=0.1, bounds=[[0, 1]] * 2)


@at("data", "graph features")
def _() -> Any:
    return numerics.Graph.from_arrays(with_nan(np.ones((2, 1))), np.ones((1, 1)), [0], [1])


@at("data", "viscosity of a generator")
def _() -> Any:
    return data.NavierStokesRecipe(n_points=8, viscosity=NAN)


@at("data", "initial state of a solve")
def _() -> Any:
    problem = problems.Burgers1D((8,), viscosity=0.1)
    return problems.solve(problem, with_nan(np.ones((1, 8))), dt=0.1, n_steps=1)


@at("data", "initial state of a compiled solve")
def _() -> Any:
    problem = problems.Burgers1D((8,), viscosity=0.1)
    options = {"dt": 0.1, "n_steps": 1, "throw": False}
    return jax.jit(lambda u: problems.solve(problem, u, **options))(with_nan(np.ones((1, 8))))


@at("data", "forecast to refine")
def _() -> Any:
    problem = problems.Burgers1D((8,), viscosity=0.1)
    return neural_operators.refine(
        with_nan(np.ones((4, 1, 8))), np.ones((4, 1, 8)), problem, dt=0.1
    )


@at("data", "forecast to estimate")
def _() -> Any:
    problem = problems.Burgers1D((8,), viscosity=0.1)
    u = np.ones((4, 1, 8))
    return neural_operators.estimate(with_nan(u), u, problem, dt=0.1)


@at("data", "forecast to score")
def _() -> Any:
    u = np.ones((4, 1, 8))
    return numerics.relative_l2(with_nan(u), u), numerics.relative_h1(with_nan(u), u, 1.0)


# -- weights


@at("weights", "model in evaluate")
def _() -> Any:
    score = neural_operators.evaluate({"fno": poisoned(small_fno())}, dataset_of(values()), 1, 2)[0]
    return score.relative_l2


@at("weights", "model in a roll-out")
def _() -> Any:
    return neural_operators.rollout(poisoned(small_fno()), jnp.ones((1, 1, 8)), 4, window=2)


@at("weights", "model that training starts from")
def _() -> Any:
    batches = dataset_of(values()).windows(1, 1, batch_size=2, seed=1)
    options = {"optimizer": optax.sgd(0.1), "n_steps": 2, "key": KEY, "progress": False}
    return train.fit(poisoned(small_fno()), batches, throw=False, **options)


@at("weights", "gate of a router")
def _() -> Any:
    router = constraints.LearnedRouter(lambda x: jnp.array([jnp.nan, 0.0]), 2)
    return constraints.Experts(line_layer(), router)(1.0, line_points())


@at("weights", "map of a graph network")
def _() -> Any:
    model = graph_solvers.ConvergentGraphSolver(1, 1, 1, heads=2, hidden_channels=2, key=KEY)
    graph = numerics.Graph.from_arrays(np.ones((2, 1)), np.ones((1, 1)), [0], [1])
    return poisoned(model).solve(graph, throw=False)


@at("weights", "field of a neural ODE")
def _() -> Any:
    model = neural_de.NeuralODE(neural_de.LatentField(2, 3, key=KEY))
    return poisoned(model)(jnp.ones(2))[0]


@at("weights", "network that is marched")
def _() -> Any:
    network = poisoned(natural_gradient.PeriodicMLP(1, width=2, depth=1, key=KEY))
    return short_march(network)


# -- operator


def _matrix() -> scipy.sparse.csr_array:
    return scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(9, 9)).tocsr()


def _broken(after: int) -> scipy.sparse.linalg.LinearOperator:
    calls = []

    def product(x: np.ndarray) -> np.ndarray:
        calls.append(x)
        return _matrix() @ x * (NAN if len(calls) > after else 1.0)

    return scipy.sparse.linalg.LinearOperator((9, 9), product, dtype=float)


def _door(result: Any) -> Any:
    """A SciPy door: a number other than zero is a failure."""
    x, info = result
    if info != 0:
        raise RuntimeError(f"info = {info}")
    return x


_B = np.arange(1.0, 10.0)


@at("operator", "matrix of cg")
def _() -> Any:
    matrix = _matrix()
    matrix.data[3] = np.nan
    return _door(linear_solvers.cg(matrix, _B))


for _after in (0, 3, 6):

    @at("operator", f"product of cg after {_after} calls")
    def _(after: int = _after) -> Any:
        return _door(linear_solvers.cg(_broken(after), _B, rtol=1e-10))


@at("operator", "product of dcdm")
def _() -> Any:
    return _door(linear_solvers.dcdm(_broken(4), _B, direction=lambda r: r, rtol=1e-10))


@at("operator", "matrix of SOR")
def _() -> Any:
    matrix = _matrix()
    matrix.data[3] = np.nan
    return linear_solvers.sor(matrix, _B, 1.2, throw=False)


@at("operator", "compiled conjugate gradients")
def _() -> Any:
    matrix = _matrix()
    matrix.data[3] = np.nan
    operator = numerics.SparseMatrix.from_scipy(matrix)
    return linear_solvers.conjugate_gradient(operator, jnp.asarray(_B))


@at("operator", "coefficient of a diffusion")
def _() -> Any:
    return problems.diffusion_operator((4,), coefficient=with_nan(np.ones(4)))


@at("operator", "entries of a contraction, compiled")
def _() -> Any:
    a, b = jnp.asarray(with_nan(0.1 * np.ones((2, 1)))), jnp.ones((2, 1))
    ends = jnp.array([0, 1]), jnp.array([1, 0])
    options = {"gamma": 0.5, "throw": False}
    return eqx.filter_jit(lambda a: graph_solvers.solve_contraction(a, b, *ends, **options))(a)


@at("operator", "right-hand side of an ODE")
def _() -> Any:
    return neural_de.NeuralODE(lambda t, y, args: y * jnp.where(t > 0.5, jnp.nan, 1.0))(
        jnp.ones(2)
    )[0]


@at("operator", "right-hand side of a march")
def _() -> Any:
    return short_march(rhs=lambda t, x, u: jnp.nan * u(x))


# -- preconditioner


@at("preconditioner", "of cg")
def _() -> Any:
    M = scipy.sparse.linalg.LinearOperator((9, 9), lambda r: r * NAN, dtype=float)
    return _door(linear_solvers.cg(_matrix(), _B, M=M))


@at("preconditioner", "of compiled conjugate gradients")
def _() -> Any:
    operator = numerics.SparseMatrix.from_scipy(_matrix())
    options = {"preconditioner": lambda r: r * jnp.nan}
    return linear_solvers.conjugate_gradient(operator, jnp.asarray(_B), **options)


@at("preconditioner", "of flexible conjugate gradients")
def _() -> Any:
    # Documented: the direction is replaced by the residual, and counted.
    operator = numerics.SparseMatrix.from_scipy(_matrix())
    options = {"preconditioner": lambda r: r.at[0].set(jnp.nan)}
    found = linear_solvers.flexible_conjugate_gradient(operator, jnp.asarray(_B), **options)
    return NoEffect(found.stats["n_replaced"], found.stats["num_steps"])


@at("preconditioner", "direction of dcdm without its safeguard")
def _() -> Any:
    options = {"direction": lambda r: r * NAN, "safeguard": False}
    return _door(linear_solvers.dcdm(_matrix(), _B, **options))


@at("preconditioner", "weights of multigrid")
def _() -> Any:
    operator = problems.diffusion_operator((32, 32))
    weights = poisoned(linear_solvers.MultigridWeights())
    M = linear_solvers.MultigridPreconditioner(operator, weights)
    b = jnp.ones((32, 32), operator.diagonal.dtype)
    return linear_solvers.conjugate_gradient(operator, b, preconditioner=M)


@at("preconditioner", "cost told to a bandit")
def _() -> Any:
    bandit = linear_solvers.TsallisINF((1.0, 1.5))
    state, _, _ = bandit.ask(bandit.init(key=KEY))
    return bandit.tell(state, NAN)
