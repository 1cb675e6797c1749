"""Calls of the tables with their modules as arguments, and what is documented of their transforms.

The tables make a model or an operator inside of the call, from sizes and a seed. To trace its
arrays it is made outside here, and handed over.
"""

from collections.abc import Callable
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse

from sciml import (
    constraints,
    graph_solvers,
    linear_solvers,
    neural_de,
    neural_operators,
    nn,
    problems,
)
from sciml.data import FieldDataset, GaussianNormaliser
from sciml.numerics import CosineBasis, Graph, SparseMatrix

_Remade = tuple[Callable[..., Any], dict[str, Any]]

# Where the answer of a call has an error larger than rounding that no argument sets: the tolerance
# inside of it, for the comparison of answers and the noise of differences.
INNER: dict[str, float] = {
    # A difference of slopes, which cancels, over a tolerance of 1e-4.
    "neural_de.regularized_solve": 1e-11,
}

# How a call is made anew with the arrays of its model, operator or graph among the arguments.
REMADE: dict[str, Callable[[dict[str, Any]], _Remade]] = {}


def _of_model(name: str, make: Callable[..., Any], *inputs: str) -> None:
    """Enter a model: what is not an input makes it."""

    def remake(arguments: dict[str, Any]) -> _Remade:
        options = {k: v for k, v in arguments.items() if k not in (*inputs, "_seed")}
        model = make(**options, key=jax.random.key(arguments["_seed"]))

        def call(model: Any, **given: Any) -> Any:
            return model(*(given[name] for name in inputs))

        return call, {"model": model} | {name: arguments[name] for name in inputs}

    REMADE[name] = remake


_of_model("nn.ChannelLinear", nn.ChannelLinear, "v")
_of_model("nn.ChannelMLP", nn.ChannelMLP, "v")
_of_model("nn.Convolution", nn.Convolution, "v")
_of_model("nn.SpectralConv", nn.SpectralConv, "v")
_of_model("nn.FourierLayer", nn.FourierLayer, "v")
_of_model("nn.PointMLP", nn.PointMLP, "v")
_of_model("nn.UNet", lambda **o: nn.UNet(**o, hidden_channels=2), "v")
_of_model(
    "neural_operators.FNO",
    lambda **o: neural_operators.FNO(**o, hidden_channels=2, n_layers=1),
    "v",
)
_of_model(
    "neural_operators.SFNO",
    lambda **o: neural_operators.SFNO(
        1,
        **o,
        n_modes=(2, 2, 2),
        hidden_channels=2,
        n_layers=2,
        latent_steps=4,
        buffer_steps=1,
    ),
    "inputs",
    "n_steps",
)
_of_model(
    "neural_operators.TransformOnce",
    lambda in_channels, out_channels, n_modes, key: neural_operators.TransformOnce(
        in_channels, out_channels, CosineBasis(n_modes), hidden_channels=3, n_layers=1, key=key
    ),
    "v",
)
_of_model(
    "neural_operators.AutoregressiveFNO",
    lambda **o: neural_operators.AutoregressiveFNO(**o, hidden_channels=2, n_layers=1),
    "inputs",
    "n_steps",
)


def _of_graph_model(kind: Any, **options: Any) -> None:
    def remake(arguments: dict[str, Any]) -> _Remade:
        ends = {name: arguments[name] for name in ("senders", "receivers")}
        key = jax.random.key(arguments["_seed"])
        model = kind(2, 1, 1, hidden_channels=3, **options, key=key)

        graph = Graph.from_arrays(arguments["nodes"], arguments["edges"], **ends)
        return (lambda model, graph: model(graph)), {"model": model, "graph": graph}

    REMADE[f"graph_solvers.{kind.__name__}"] = remake


_of_graph_model(graph_solvers.ConvergentGraphSolver)
_of_graph_model(graph_solvers.ImplicitGraphNetwork, rtol=1e-12, max_steps=4096)
_of_graph_model(graph_solvers.DeepGraphNetwork)


def _with_operator(name: str, solver: Callable[..., Any]) -> None:
    """Enter a solver of ``(operator, b)``: the operator's entries are differentiated too."""

    def remake(arguments: dict[str, Any]) -> _Remade:
        matrix = scipy.sparse.csr_array(arguments["A"])
        operator = SparseMatrix.from_scipy(matrix)
        rows, columns = matrix.tocoo().coords

        def call(A: Any, b: Any, **options: Any) -> Any:
            return solver(operator.with_data(A[rows, columns]), b, **options)

        return call, arguments

    REMADE[name] = remake


_with_operator("linear_solvers.conjugate_gradient", linear_solvers.conjugate_gradient)
_with_operator("linear_solvers.conjugate_directions", linear_solvers.conjugate_directions)
_with_operator(
    "linear_solvers.flexible_conjugate_gradient",
    lambda *args, **options: linear_solvers.flexible_conjugate_gradient(
        *args, preconditioner=lambda r: r, **options
    ),
)


def _sor(arguments: dict[str, Any]) -> _Remade:
    # Only NumPy and SciPy matrices are taken: their entries are needed one by one.
    given = {name: x for name, x in arguments.items() if name not in ("A", "b")}

    def call(b: Any) -> Any:
        return linear_solvers.sor(arguments["A"], b, **given, throw=False)

    return call, {"b": arguments["b"]}


REMADE["linear_solvers.sor"] = _sor


def _matrix(arguments: dict[str, Any]) -> _Remade:
    diagonal, off = arguments["_diagonal"], arguments["_off"]
    dense = np.diag(diagonal) + np.diag(off, 1) + np.diag(off, -1)
    matrix = SparseMatrix.from_scipy(scipy.sparse.csr_array(dense))
    return (lambda matrix, x: matrix.mv(x)), {"matrix": matrix, "x": arguments["x"]}


REMADE["numerics.SparseMatrix"] = _matrix


def _diffusion(arguments: dict[str, Any]) -> _Remade:
    sizes = {name: arguments[name] for name in ("n_points", "domain_extent")}

    def call(coefficient: Any, u: Any) -> Any:
        return problems.diffusion_operator(**sizes, coefficient=coefficient).mv(u)

    return call, {"coefficient": arguments["coefficient"], "u": arguments["u"]}


REMADE["problems.diffusion_operator"] = _diffusion


def _normaliser(arguments: dict[str, Any]) -> _Remade:
    dataset = FieldDataset.from_array(arguments["values"], dt=0.5, domain_extent=2.0)

    def call(normaliser: Any, u: Any) -> Any:
        return normaliser.encode(u), normaliser.decode(u)

    return call, {"normaliser": GaussianNormaliser.fit(dataset), "u": arguments["u"]}


REMADE["data.GaussianNormaliser"] = _normaliser


def _ode(arguments: dict[str, Any]) -> _Remade:
    options = {k: v for k, v in arguments.items() if k not in ("y0", "t0", "t1")}

    def call(w: Any, y0: Any, t0: Any, t1: Any) -> Any:
        model = neural_de.NeuralODE(lambda t, y, _: jnp.tanh(w @ y), t0=t0, t1=t1, **options)
        return model(y0)[0]

    n = len(arguments["y0"])
    times = {name: np.asarray(arguments[name]) for name in ("t0", "t1")}
    return call, {"w": np.cos(np.arange(n * n)).reshape(n, n), "y0": arguments["y0"], **times}


REMADE["neural_de.NeuralODE"] = _ode


def _regularized(arguments: dict[str, Any]) -> _Remade:
    # Fixed steps: the gradient of a regulariser is documented to be that at fixed ones.
    def call(y0: Any) -> Any:
        solution, penalty = neural_de.regularized_solve(
            diffrax.ODETerm(lambda t, y, _: -jnp.sin(y)),
            diffrax.Tsit5(),
            arguments["t0"],
            arguments["t1"],
            0.25,
            y0,
            regularizers={"e": neural_de.ErrorEstimate(rtol=1e-4, atol=1e-6)},
            stepsize_controller=diffrax.ConstantStepSize(),
        )
        return solution.ys[-1], penalty.total

    return call, {"y0": arguments["_y0"]}


REMADE["neural_de.regularized_solve"] = _regularized


def _sde(arguments: dict[str, Any]) -> _Remade:
    def call(w: Any, y0: Any) -> Any:
        model = neural_de.NeuralSDE(
            lambda t, y, _: -w[0] * y, lambda t, y, _: w[1] * y, t1=arguments["t1"]
        )
        key = jax.random.key(arguments["_seed"])
        return model(y0, key=key, n_paths=arguments["n_paths"])[0]

    return call, {"w": np.array([1.0, 0.1]), "y0": arguments["y0"]}


REMADE["neural_de.NeuralSDE"] = _sde


def _latent(arguments: dict[str, Any]) -> _Remade:
    key = jax.random.key(arguments["_seed"])
    model = neural_de.LatentODE(1, n_latent=2, hidden_channels=3, key=key)

    def call(model: Any, values: Any, ts: Any) -> Any:
        return model.encode(values, arguments["mask"], ts)[0]

    return call, {"model": model, "values": arguments["values"], "ts": arguments["ts"]}


REMADE["neural_de.LatentODE.encode"] = _latent


def _with_numbers(name: str, *numbers: str) -> None:
    """Enter a call whose Python floats may be arrays: a physical coefficient to be fitted."""

    def remake(arguments: dict[str, Any]) -> _Remade:
        from .property_cases import CALLS

        wide = {number: np.asarray(arguments[number]) for number in numbers}
        return CALLS[name].function, arguments | wide

    REMADE[name] = remake


_with_numbers("problems.solve", "viscosity")
_with_numbers("problems.NavierStokes2D", "viscosity", "drag")
_with_numbers("problems.march_flow", "viscosity")


def _contraction(arguments: dict[str, Any]) -> _Remade:
    def call(**given: Any) -> Any:
        solver = graph_solvers.AutoSolver(1e-12, 1e-12)
        return graph_solvers.solve_contraction(**given, solver=solver, throw=False)

    return call, arguments | {"gamma": np.asarray(arguments["gamma"])}


def _max_contraction(arguments: dict[str, Any]) -> _Remade:
    def call(**given: Any) -> Any:
        options = {"rtol": 1e-12, "atol": 1e-12, "throw": False}
        return graph_solvers.solve_max_contraction(
            given.pop("a"), given.pop("b"), **given, **options
        )

    return call, arguments | {"gamma": np.asarray(arguments["gamma"])}


REMADE["graph_solvers.solve_contraction"] = _contraction
REMADE["graph_solvers.solve_max_contraction"] = _max_contraction


def _router(arguments: dict[str, Any]) -> _Remade:
    options = {k: v for k, v in arguments.items() if k != "x"}
    router = constraints.BoxRouter(**options)
    return (lambda router, x: jax.vmap(router.weights)(x)), {"router": router, "x": arguments["x"]}


REMADE["constraints.BoxRouter"] = _router


def _hard(arguments: dict[str, Any]) -> _Remade:
    def powers(x: Any, _: Any) -> Any:
        # Products: of JAX's power with an array of exponents the second derivative is NaN at 0.
        return jnp.cumprod(jnp.concatenate([jnp.ones(1), jnp.repeat(x, 4)]))

    basis = constraints.CoordinateBasis(powers, coordinates=("x",))
    rows = [
        constraints.Residual(lambda jet, x, p: jet["u_x"] - p * jet["u"], ("u", "u_x")),
        constraints.Residual(lambda jet, x, p: jet["u"] - 1, ("u",), name="start"),
    ]
    layer = constraints.HardConstraint(basis, rows)

    def call(positions: Any, rate: Any, at: Any) -> Any:
        return layer(rate, {"pde": positions, "start": jnp.zeros((1, 1))})(at)

    return call, {
        "positions": arguments["positions"],
        "rate": np.asarray(arguments["_rate"]),
        "at": arguments["at"],
    }


REMADE["constraints.HardConstraint"] = _hard


def _minimum(arguments: dict[str, Any]) -> _Remade:
    # With another target for each unknown: of one for all the minimum knows nothing.
    target = np.arange(len(arguments["x0"])) * 0.3 - arguments["_target"]
    options = {name: arguments[name] for name in ("tol", "max_steps")}

    def call(x0: Any, target: Any) -> Any:
        return constraints.minimise_constrained(
            lambda x, a: jnp.sum((x - a) ** 2 + 0.1 * (x - a) ** 4),
            lambda x, a: jnp.array([jnp.sum(x * jnp.cos(a)) - 1.0]),
            x0,
            target,
            **options,
            throw=False,
        )

    return call, {"x0": arguments["x0"], "target": target}


REMADE["constraints.minimise_constrained"] = _minimum
