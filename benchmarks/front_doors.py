"""The front doors of sciml at a small size; `startup` and `regressions` time them.

Each entry of `DOORS` makes a function without arguments: what a user calls, up to the arrays that
come back. It is made when asked for, so that one of them can be looked at in a process of its own.
Needs ``jax_enable_x64``: the marches and the linear systems are in float64, the networks are not.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from sciml import (
    constraints,
    graph_solvers,
    linear_solvers,
    natural_gradient,
    neural_de,
    neural_operators,
    numerics,
    problems,
)

KEY = jax.random.key(2029)


def _numbers(*shape, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(len(shape)).normal(size=shape), dtype)


def _training(model, loss, *arrays):
    """Return the value and the gradient of a loss, as a function without arguments."""
    step = eqx.filter_jit(eqx.filter_value_and_grad(loss))
    return lambda: step(model, *arrays)


def _square(model, x):
    return jnp.mean(jax.vmap(model)(x) ** 2)


def fno_step():
    """Train an FNO: four fields of 64 x 64."""
    model = neural_operators.FNO(1, 1, (12, 12), hidden_channels=24, key=KEY)
    return _training(model, _square, _numbers(4, 1, 64, 64))


def sfno_step():
    """Train an SFNO: two windows of ten and ten snapshots of 32 x 32."""
    model = neural_operators.SFNO(
        1, dt=0.1, horizon=1.0, n_modes=(4, 8, 8), hidden_channels=10, key=KEY
    )
    batch = (_numbers(2, 10, 1, 32, 32), _numbers(2, 10, 1, 32, 32))

    def loss(model, inputs, targets):
        found = jax.vmap(lambda v: model(v, 10))(inputs)
        return jnp.mean((found - targets) ** 2)

    return _training(model, loss, *batch)


def t1_step():
    """Train a T1 on coefficients, four fields of 24 x 24 modes."""
    basis = numerics.CosineBasis((24, 24))
    model = neural_operators.TransformOnce(1, 1, basis, key=KEY)

    def loss(model, z):
        return jnp.mean(jax.vmap(model.spectral)(z) ** 2)

    return _training(model, loss, _numbers(4, 1, 24, 24))


def refined():
    """Refine a forecast of Burgers' equation, 64 points and nine snapshots."""
    problem, dt = problems.Burgers1D((64,), viscosity=0.05), 0.05
    x = jnp.arange(64) / 64 * 2 * jnp.pi
    start = jnp.stack([jnp.sin(x + 0.1 * i)[None] for i in range(4)])
    truth = problems.solve(problem, start[-1], dt=dt / 5, n_steps=45, save_every=5).value
    return lambda: neural_operators.refine(1.01 * truth, start, problem, dt=dt).value


def grid_solve():
    """Solve a pressure problem on 128 x 128 cells by the SciPy door, set-up included."""
    problem = problems.obstacle_problem((128, 128), key=KEY)
    a, b = problem.operator.to_scipy(), np.asarray(problem.right_hand_side).ravel()

    def solve():
        return linear_solvers.cg(a, b, M=linear_solvers.aspreconditioner(a), rtol=1e-6)[0]

    return solve


def constrained():
    """Differentiate a layer of 16 functions on 400 points with four experts."""
    net = eqx.nn.MLP(2, 16, 32, 2, jnp.tanh, key=KEY)
    basis = constraints.CoordinateBasis(lambda x, p: net(x), lift=lambda x, p: jnp.sin(x[1]))
    rows = [constraints.Residual(lambda j, x, p: j["u_t"] - p * j["u_xx"], ("u_t", "u_xx"))]
    layer = constraints.HardConstraint(basis, rows)
    router = constraints.BoxRouter((0.0, 0.0), (1.0, 1.0), (1, 4), overlap=0.1)
    experts = constraints.Experts(layer, router)
    routed = experts.route({"pde": jnp.asarray(np.random.default_rng(3).uniform(size=(400, 2)))})

    @jax.jit
    def slope(p):
        return jax.grad(lambda p: jnp.sum(experts(p, routed).w ** 2))(p)

    return lambda: slope(0.1)


def marched():
    """March the heat equation by TENG, three steps of 512 points."""
    x = jnp.arange(512)[:, None] / 512 * 2 * jnp.pi
    points = natural_gradient.CollocationPoints(x, jnp.full(512, 2 * jnp.pi / 512))
    network = natural_gradient.PeriodicMLP(1, width=12, key=KEY)
    heat = natural_gradient.laplacian

    def rhs(t, x, u):
        return 0.1 * heat(u)(x)

    return lambda: natural_gradient.march(rhs, network, points, t1=0.03, dt=0.01, throw=False).value


def graph_step():
    """Train a convergent graph solver on 200 nodes."""
    rng = np.random.default_rng(5)
    senders = rng.integers(0, 200, 800)
    graph = numerics.Graph.from_arrays(
        rng.normal(size=(200, 3)).astype(np.float32),
        rng.normal(size=(800, 1)).astype(np.float32),
        senders,
        (senders + 1 + rng.integers(0, 198, 800)) % 200,
    )
    model = graph_solvers.ConvergentGraphSolver(3, 1, 1, heads=4, hidden_channels=16, key=KEY)
    return _training(model, lambda model, graph: jnp.mean(model(graph) ** 2), graph)


def neural_ode_step():
    """Train a neural ODE of 64 states with the error estimate as penalty."""
    model = neural_de.NeuralODE(
        neural_de.LatentField(2, 32, key=KEY),
        regularization={"error": neural_de.ErrorEstimate()},
        rtol=1e-5,
        atol=1e-5,
    )

    def loss(model, y0):
        y, penalty, _ = model.as_one_state(y0, ts=jnp.linspace(0.0, 1.0, 5), weights={"error": 0.1})
        return jnp.mean(y**2) + penalty.total

    return _training(model, loss, _numbers(64, 2))


DOORS = {
    "FNO, training step": fno_step,
    "SFNO, training step": sfno_step,
    "T1, training step": t1_step,
    "refine, Burgers": refined,
    "cg with aspreconditioner, 128 x 128": grid_solve,
    "constraint layer, 4 experts, gradient": constrained,
    "TENG, 3 steps": marched,
    "convergent graph solver, training step": graph_step,
    "neural ODE, regularised, training step": neural_ode_step,
}
