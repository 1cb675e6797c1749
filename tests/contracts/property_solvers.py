"""Table of calls: linear solvers, graph solvers, constraints; each judged by its true residual."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from hypothesis import strategies as st

from sciml import constraints, graph_solvers, linear_solvers
from sciml.core import RESULTS, Solution
from sciml.numerics import SparseMatrix

from .property_cases import add, close, numbers
from .property_graphs import draw_graph

_N = st.sampled_from((1, 2, 7))


def _spd(draw: Any, n: int) -> np.ndarray:
    a = numbers(draw, n, n, dtype="float64")
    return (a @ a.T + n * np.eye(n)).astype(draw(st.sampled_from(("float32", "float64"))))


def _system(draw: Any) -> dict:
    A = _spd(draw, draw(_N))
    return {"A": A, "b": numbers(draw, len(A)).astype(A.dtype), "rtol": 1e-4, "atol": 0.0}


def _sparse(A: Any) -> Any:
    """Return a sparse matrix; what SciPy cannot make one of as it came."""
    try:
        return scipy.sparse.csr_array(A)
    except (ValueError, TypeError):
        return A


def _diagonal_matrix(diagonal: Any) -> Any:
    try:
        return _sparse(np.diag(diagonal))
    except ValueError:
        return diagonal


def _solves(found: Any, A: Any, b: Any, rtol: float, atol: float, **_: Any) -> None:
    x = np.asarray(found.value if isinstance(found, Solution) else found, np.complex128)
    A, b = np.asarray(A, np.complex128), np.asarray(b, np.complex128)
    miss = np.linalg.norm(b.reshape(-1) - A @ x.reshape(-1))
    size = np.linalg.norm(b)
    # With rtol = 0 the solver's residual is zero, and this one, of scaled numbers, is rounding.
    assert miss <= 1.01 * max(rtol * size, atol) + 1e-6 * rtol * size + 1e-15 * size, (
        f"residual {miss:.2g} of {size:.2g}"
    )


def _as_solution(x: Any, info: int) -> Solution:
    """A SciPy door ends with a number: zero is success."""
    result = RESULTS.successful if info == 0 else RESULTS.stagnation
    return Solution(x, result, {})


@add(
    "linear_solvers.cg",
    lambda A, b, rtol, atol: _as_solution(*linear_solvers.cg(A, b, rtol=rtol, atol=atol)),
    check=_solves,
)
def _(draw: Any) -> dict:
    return _system(draw)


@add(
    "linear_solvers.cg, sparse",
    lambda diagonal, b, rtol: _as_solution(
        *linear_solvers.cg(_diagonal_matrix(diagonal), b, rtol=rtol)
    ),
    check=lambda found, diagonal, b, rtol: _solves(found, np.diag(diagonal), b, rtol, 0.0),
    words=("A", "matrix"),
)
def _(draw: Any) -> dict:
    n = draw(_N)
    diagonal = abs(numbers(draw, n)) + 0.5
    return {"diagonal": diagonal, "b": numbers(draw, n, dtype=diagonal.dtype), "rtol": 1e-4}


@add(
    "linear_solvers.cg, preconditioned",
    lambda A, b, M, x0, maxiter: _as_solution(
        *linear_solvers.cg(A, b, x0, M=M, maxiter=maxiter, rtol=1e-4)
    ),
    check=lambda found, A, b, **_: _solves(found, A, b, 1e-4, 0.0),
)
def _(draw: Any) -> dict:
    A = _spd(draw, draw(_N))
    return {
        "A": A,
        "b": numbers(draw, len(A)).astype(A.dtype),
        "M": np.diag(1 / np.diag(A)),
        "x0": numbers(draw, len(A)).astype(A.dtype),
        "maxiter": 50,
    }


@add(
    "linear_solvers.dcdm",
    lambda A, b, rtol, atol, memory: _as_solution(
        *linear_solvers.dcdm(A, b, rtol=rtol, atol=atol, direction=lambda r: r, memory=memory)
    ),
    check=_solves,
)
def _(draw: Any) -> dict:
    return _system(draw) | {"memory": draw(st.integers(1, 3))}


@add(
    "linear_solvers.sor",
    lambda A, b, omega, rtol, atol, max_steps: linear_solvers.sor(
        A, b, omega, rtol=rtol, atol=atol, max_steps=max_steps, throw=False
    ),
    check=_solves,
)
def _(draw: Any) -> dict:
    system = _system(draw)
    # Of another precision than the matrix, perhaps.
    system["b"] = numbers(draw, len(system["A"]))
    return system | {"omega": draw(st.sampled_from((0.7, 1.0, 1.5))), "max_steps": 2000}


def _inside(solver: Any) -> Any:
    def solve(A: Any, b: Any, rtol: float, atol: float, max_steps: int) -> Solution:
        operator = SparseMatrix.from_scipy(_sparse(A))
        return solver(operator, b, rtol=rtol, atol=atol, max_steps=max_steps)

    return solve


for _name, _solver in {
    "conjugate_gradient": linear_solvers.conjugate_gradient,
    "conjugate_directions": linear_solvers.conjugate_directions,
    "flexible_conjugate_gradient": lambda *args, **options: (
        linear_solvers.flexible_conjugate_gradient(*args, preconditioner=lambda r: r, **options)
    ),
}.items():
    add(f"linear_solvers.{_name}", _inside(_solver), check=_solves, words=("operator", "matrix"))(
        lambda draw: _system(draw) | {"max_steps": 60}
    )


@add(
    "linear_solvers.ssor_preconditioner",
    lambda A, omega, _r: linear_solvers.ssor_preconditioner(_sparse(A), omega).matvec(_r),
    check=lambda found, A, omega, _r: close(np.shape(found), np.shape(_r)),
)
def _(draw: Any) -> dict:
    A = _spd(draw, draw(_N))
    return {"A": A, "omega": 1.2, "_r": numbers(draw, len(A)).astype(A.dtype)}


@add(
    "linear_solvers.aspreconditioner",
    lambda A, _r: linear_solvers.aspreconditioner(_sparse(A)).matvec(_r),
    check=lambda found, A, _r: close(np.shape(found), np.shape(_r)),
    words=("matrix",),
)
def _(draw: Any) -> dict:
    n = draw(st.sampled_from((1, 9)))
    A = 2.0 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    return {"A": A, "_r": numbers(draw, n, dtype="float64")}


@add(
    "linear_solvers.young_omega",
    linear_solvers.young_omega,
    check=lambda found, beta: close(found, 1 + (beta / (1 + np.sqrt(1 - beta**2))) ** 2, rtol=1e-6),
)
def _(draw: Any) -> dict:
    return {"beta": draw(st.sampled_from((0.0, 0.5, 0.9)))}


@add(
    "linear_solvers.constant_components",
    linear_solvers.constant_components,
    check=lambda found, matrix: close(np.shape(found), np.shape(matrix)[:1]),
)
def _(draw: Any) -> dict:
    return {
        "matrix": np.array(
            [[1.0, -1.0, 0], [-1.0, 1.0, 0], [0, 0, draw(st.sampled_from((0.0, 2.0)))]]
        )
    }


def _bandit(kind: Any) -> Any:
    def play(grid: Any, cost: float, _seed: int) -> Any:
        bandit = kind(grid)
        state = bandit.init(key=jax.random.key(_seed))
        found = []
        for _ in range(3):
            state, _, value = bandit.ask(state)
            state = bandit.tell(state, cost)
            found.append(value)
        return found

    return play


def _of_bandit(found: Any, grid: Any, cost: float, _seed: int) -> None:
    assert np.isfinite(cost), "a cost that is no number was taken"
    assert all(min(abs(float(x) - np.asarray(grid, float))) < 1e-6 for x in found), f"{found}"


for _kind in (
    linear_solvers.TsallisINF,
    linear_solvers.InverseGapBandit,
    linear_solvers.LowerBoundBandit,
):
    add(f"linear_solvers.{_kind.__name__}", _bandit(_kind), check=_of_bandit)(
        lambda draw: {
            "grid": (1.0, 1.4, 1.8),
            "cost": draw(st.sampled_from((1.0, 30.0))),
            "_seed": 3,
        }
    )


def _contract(kind: str) -> Any:
    def solve(a: Any, b: Any, rows: Any, columns: Any, gamma: float) -> Solution:
        return getattr(graph_solvers, kind)(a, b, rows, columns, gamma=gamma, throw=False)

    def check(found: Solution, a: Any, b: Any, rows: Any, columns: Any, gamma: float) -> None:
        h, a = np.asarray(found.value, float), np.asarray(a, float)
        right = np.zeros(h.shape) if kind == "solve_contraction" else np.full(h.shape, -np.inf)
        gamma = np.broadcast_to(np.asarray(gamma, float), h.T.shape).T
        if kind == "solve_contraction":
            np.add.at(right, np.asarray(rows), a * h[np.asarray(columns)])
            right = gamma * right
        else:
            rows = np.asarray(rows)
            np.maximum.at(right, rows, gamma[rows] * h[np.asarray(columns)] + a)
            right[np.isinf(right)] = 0
        close(right + np.asarray(b, float), h, rtol=1e-4)

    return solve, check


for _kind in ("solve_contraction", "solve_max_contraction"):
    _solve, _check = _contract(_kind)

    @add(f"graph_solvers.{_kind}", _solve, check=_check, words=("entries", "q", "rewards"))
    def _(draw: Any) -> dict:
        graph = draw_graph(draw)
        n, m = len(graph["nodes"]), len(graph["edges"])
        a = (numbers(draw, m, 2) * 0.02).astype(graph["nodes"].dtype)
        return {
            "a": a,
            "b": graph["nodes"] * np.ones((n, 1), a.dtype),
            "rows": graph["receivers"],
            "columns": graph["senders"],
            "gamma": 0.8,
        }


def _of_diffusion(found: Any, conductance: Any, ends: Any, is_boundary: Any, boundary: Any) -> None:
    u, c, ends = np.asarray(found.value, float), np.asarray(conductance, float), np.asarray(ends)
    flow = np.zeros(len(u))
    current = c * (u[ends[:, 0]] - u[ends[:, 1]])
    np.add.at(flow, ends[:, 0], current)
    np.add.at(flow, ends[:, 1], -current)
    inside = ~np.asarray(is_boundary, bool)
    assert abs(flow[inside]).max(initial=0) <= 1e-3 * (abs(current).max(initial=0) + 1e-30)
    close(u[~inside], np.asarray(boundary)[~inside], rtol=1e-5)


@add(
    "graph_solvers.diffusion_solve",
    lambda conductance, ends, is_boundary, boundary: graph_solvers.diffusion_solve(
        conductance, ends, is_boundary, boundary, throw=False
    ),
    check=_of_diffusion,
)
def _(draw: Any) -> dict:
    n = draw(st.sampled_from((2, 5)))
    c = abs(numbers(draw, n - 1)) + 0.1
    ends = np.stack([np.arange(n - 1), np.arange(1, n)], 1).astype(np.int32)
    held = np.arange(n) % (n - 1) == 0
    return {
        "conductance": c,
        "ends": ends,
        "is_boundary": held,
        "boundary": numbers(draw, n, dtype=c.dtype),
    }


def _of_rows(found: Any, logits: Any, rows: Any, n_nodes: int) -> None:
    total = np.zeros((n_nodes, *np.shape(logits)[1:]))
    assert ((np.asarray(rows) >= 0) & (np.asarray(rows) < n_nodes)).all(), "taken out of range"
    np.add.at(total, np.asarray(rows), abs(np.asarray(found, float)))
    assert (total <= 1.001).all()


@add("graph_solvers.contraction_rows", graph_solvers.contraction_rows, check=_of_rows)
def _(draw: Any) -> dict:
    return {
        "logits": numbers(draw, 5, 2),
        "rows": np.array([0, 0, 1, 3, 3], np.int32),
        "n_nodes": 4,
    }


def _line(w: Any, points: Any, args: Any) -> Any:
    return w[0] + w[1] * points[0] - points[1]


def _fit(w0: Any, x: Any, y: Any, weights: Any) -> Solution:
    return constraints.least_squares(_line, w0, (x, y), weights=weights, throw=False)


def _of_fit(found: Any, w0: Any, x: Any, y: Any, weights: Any) -> None:
    x, y = np.asarray(x, float), np.asarray(y, float)
    root = np.sqrt(np.broadcast_to(1.0 if weights is None else np.asarray(weights, float), x.shape))
    best = np.linalg.lstsq(np.stack([root, root * x], 1), root * y, rcond=None)[0]
    close(np.asarray(found.value, float), best, rtol=2e-2)


@add("constraints.least_squares", _fit, check=_of_fit, words=("points", "residual"))
def _(draw: Any) -> dict:
    x = numbers(draw, 8)
    return {
        "w0": np.zeros(2, x.dtype),
        "x": x,
        "y": numbers(draw, 8, dtype=x.dtype),
        "weights": np.ones(8, x.dtype),
    }


def _field(positions: Any, _rate: float, at: Any) -> Any:
    basis = constraints.CoordinateBasis(lambda x, p: x[0] ** jnp.arange(5), coordinates=("x",))
    rows = [
        constraints.Residual(lambda jet, x, p: jet["u_x"] - p * jet["u"], ("u", "u_x")),
        constraints.Residual(lambda jet, x, p: jet["u"] - 1, ("u",), name="start"),
    ]
    start = np.zeros((1, 1), np.asarray(positions).dtype)
    field = constraints.HardConstraint(basis, rows)(_rate, {"pde": positions, "start": start})
    return field(at), Solution(field.w, field.result, field.stats)


@add(
    "constraints.HardConstraint",
    _field,
    words=("points", "pde", "x"),
    check=lambda found, at, **_: close(np.shape(found[0]), ()),
)
def _(draw: Any) -> dict:
    x = np.linspace(0, 1, draw(st.sampled_from((6, 9))))[:, None]
    x = x.astype(draw(st.sampled_from(("float32", "float64"))))
    return {"positions": x, "_rate": 0.5, "at": np.full(1, 0.5, x.dtype)}


def _minimise(x0: Any, _target: Any, tol: float, max_steps: int) -> Solution:
    return constraints.minimise_constrained(
        lambda x, a: jnp.sum((x - a) ** 2),
        lambda x, a: jnp.array([jnp.sum(x) - 1.0]),
        x0,
        _target,
        tol=tol,
        max_steps=max_steps,
        throw=False,
    )


def _of_minimum(found: Any, x0: Any, _target: Any, tol: float, **_: Any) -> None:
    if tol > 1:  # any point will do
        return
    n = len(found.value)
    close(np.asarray(found.value, float), np.full(n, 1 / n), rtol=1e-2)


@add("constraints.minimise_constrained", _minimise, check=_of_minimum, words=("objective", "args"))
def _(draw: Any) -> dict:
    x0 = numbers(draw, draw(st.sampled_from((1, 3))))
    return {
        "x0": x0,
        "_target": np.asarray(draw(st.sampled_from((0.5, -2.0))), x0.dtype),
        "tol": 1e-4,
        "max_steps": 30,
    }


def _of_weights(found: Any, x: Any, **_: Any) -> None:
    w = np.asarray(found, float)
    assert w.shape[:-1] == np.shape(x)[:-1]
    inside = ((np.asarray(x) >= 0) & (np.asarray(x) <= 1)).all(-1)
    close(w.sum(-1)[inside], np.ones(inside.sum()), rtol=1e-4)


@add(
    "constraints.BoxRouter",
    lambda lower, upper, splits, x: jax.vmap(constraints.BoxRouter(lower, upper, splits).weights)(
        x
    ),
    check=_of_weights,
)
def _(draw: Any) -> dict:
    return {
        "lower": (0.0, 0.0),
        "upper": (1.0, 1.0),
        "splits": (1, draw(st.integers(1, 3))),
        "x": abs(numbers(draw, 4, 2)) % 1,
    }


def _of_boxes(found: Any, points: Any, importance: Any, n_experts: int, **_: Any) -> None:
    volume = np.prod(np.asarray(found.upper) - np.asarray(found.lower), axis=-1)
    assert len(volume) == n_experts
    close(volume.sum(), 1.0, rtol=1e-6)


@add("constraints.split_by_importance", constraints.split_by_importance, check=_of_boxes)
def _(draw: Any) -> dict:
    x = abs(numbers(draw, 12, 1)) % 1
    return {
        "points": x,
        "importance": abs(numbers(draw, 12, dtype=x.dtype)),
        "lower": (0.0,),
        "upper": (1.0,),
        "n_experts": draw(st.integers(1, 4)),
    }


def _network(kind: Any) -> Any:
    def call(nodes: Any, edges: Any, senders: Any, receivers: Any, _seed: int) -> Any:
        from sciml.numerics import Graph

        model = kind(2, 1, 1, hidden_channels=3, key=jax.random.key(_seed))
        return eqx.filter_jit(model)(Graph.from_arrays(nodes, edges, senders, receivers))

    return call


for _kind in (
    graph_solvers.ConvergentGraphSolver,
    graph_solvers.ImplicitGraphNetwork,
    graph_solvers.DeepGraphNetwork,
):
    add(
        f"graph_solvers.{_kind.__name__}",
        _network(_kind),
        words=("graph",),
        check=lambda found, nodes, **_: close(np.shape(found), (len(nodes), 1)),
    )(
        lambda draw: (
            {
                k: (v.astype("float32") if v.dtype.kind == "f" else v)
                for k, v in draw_graph(draw).items()
            }
            | {"_seed": 1}
        )
    )
