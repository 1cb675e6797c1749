"""Products of float32 matrices keep float32 on a GPU, in values and in derivatives.

A CPU would not show the loss: the traced programs are searched for products that leave the
precision to the device.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest
import scipy.sparse

from sciml import graph_solvers, linear_solvers, neural_operators, nn, numerics, problems
from sciml.constraints import CoordinateBasis, HardConstraint, Residual
from sciml.natural_gradient import PeriodicMLP, laplacian
from sciml.neural_de import LatentField, NeuralODE
from sciml.numerics import full_precision

KEY = jax.random.key(829)
PRODUCTS = ("dot_general", "conv_general_dilated")
SINGLE = (jnp.float32, jnp.complex64)
WAVES = numerics.CosineBasis((4, 3))


def _numbers(*shape):
    return jax.random.uniform(jax.random.fold_in(KEY, sum(shape)), shape)


def _graph():
    ring = [0, 1, 2, 3]
    return numerics.Graph.from_arrays(_numbers(4, 2), _numbers(4, 1), ring, [*ring[1:], 0])


def _constrained_field(p):
    basis = CoordinateBasis(lambda x, p: jnp.stack([x[0], x[0] * x[1] + p]))
    rows = [Residual(lambda jet, x, p: jet["u"] - x[1] * p, ("u",))]
    return HardConstraint(basis, rows)(p, {"pde": _numbers(9, 2)})(jnp.ones(2))


def _forecast():
    model = neural_operators.SFNO(
        2, dt=0.1, horizon=1.0, n_modes=(2, 3, 2), hidden_channels=4, latent_steps=6, key=KEY
    )
    return lambda u: model(u, 3)


MODEL_OF_PATHS = neural_operators.KernelReducedOrderModel(2, hidden_channels=2, key=KEY)


def _path(tracks):
    return MODEL_OF_PATHS(_numbers(3, 2), tracks)


def _collocation(u):
    known = jnp.zeros((4, *u.shape[1:]))
    problem = problems.Burgers1D((8,), viscosity=0.1)
    residual = neural_operators.CollocationResidual()
    return neural_operators.estimate(u, known, problem, dt=0.1, residual=residual).eta


def _resistors(conductance):
    ends, held = jnp.array([[0, 1], [1, 2]]), jnp.array([True, False, True])
    values = jnp.array([1.0, 0.0, 0.0])
    return graph_solvers.diffusion_solve(conductance, ends, held, values).value


def _of_graphs(build, call=lambda model, graph: model(graph)):
    def make():
        model, graph = build(key=KEY), _graph()
        return lambda x: call(model, eqx.tree_at(lambda g: g.nodes, graph, x)), graph.nodes

    return make


def _module(build, *shape):
    return lambda: (build(key=KEY), _numbers(*shape))


def _function(f, *shape):
    return lambda: (f, _numbers(*shape))


STENCIL = problems.diffusion_operator((8, 6))
GRAPH_OF_MATRIX = scipy.sparse.diags_array([-1.0, 2.1, -1.0], offsets=[-1, 0, 1], shape=(40, 40))
# Each a function of an array, made when it is tested.
CASES = {
    "FNO": _module(
        lambda key: neural_operators.FNO(2, 3, (3, 2), hidden_channels=4, key=key), 2, 8, 8
    ),
    "SFNO": lambda: (_forecast(), _numbers(4, 2, 8, 8)),
    "T1": _module(lambda key: neural_operators.TransformOnce(2, 1, WAVES, key=key), 2, 8, 8),
    "KernelROM": _function(_path, 3, 8, 2),
    "point MLP": _module(lambda key: nn.PointMLP((2, 4, 3), normalise=True, key=key), 5, 2),
    "U-Net": _module(lambda key: nn.UNet(2, 1, (True, False), n_levels=1, key=key), 2, 8, 8),
    "direction network": _module(
        lambda key: linear_solvers.DirectionNetwork(2, hidden_channels=2, key=key), 8, 8
    ),
    "multigrid": lambda: (linear_solvers.MultigridPreconditioner(STENCIL), _numbers(8, 6)),
    "algebraic multigrid": lambda: (
        linear_solvers.aspreconditioner(GRAPH_OF_MATRIX.tocsr()).preconditioner,
        _numbers(40),
    ),
    "graph solver": _of_graphs(
        lambda key: graph_solvers.ConvergentGraphSolver(
            2, 1, 1, heads=2, hidden_channels=4, key=key
        )
    ),
    "implicit graph network": _of_graphs(
        lambda key: graph_solvers.ImplicitGraphNetwork(2, 1, 1, hidden_channels=4, key=key)
    ),
    "diffusion": _function(_resistors, 2),
    "constraint": _function(_constrained_field),
    "network of TENG": _module(lambda key: laplacian(PeriodicMLP(2, width=3, key=key)), 2),
    "neural ODE": _function(lambda y: NeuralODE(LatentField(2, 3, key=KEY))(y)[0], 2),
    "solve of the graph network": _of_graphs(
        lambda key: graph_solvers.ImplicitGraphNetwork(2, 1, 1, hidden_channels=4, key=key),
        call=lambda model, graph: model.solve(graph).value,
    ),
    "mixture of KernelROM": lambda: (
        MODEL_OF_PATHS.mixture,
        _numbers(3, MODEL_OF_PATHS.network.in_size),
    ),
    "collocation": _function(_collocation, 3, 1, 8),
    "rotation": _function(numerics.polar_rotation, 5, 3, 3),
    "singular values": _function(lambda a: numerics.signed_svd(a)[1], 5, 2, 2),
}


def _left_to_the_device(jaxpr):
    """Yield the float32 products of a program whose precision is not said."""
    for eqn in jaxpr.eqns:
        is_product = eqn.primitive.name in PRODUCTS and eqn.invars[0].aval.dtype in SINGLE
        if is_product and eqn.params["precision"] is None:
            yield eqn
        for value in jax.tree.leaves(list(eqn.params.values()), is_leaf=_is_program):
            if _is_program(value):
                yield from _left_to_the_device(getattr(value, "jaxpr", value))


def _is_program(value):
    return hasattr(value, "eqns") or hasattr(value, "jaxpr")


@pytest.mark.parametrize("name", CASES)
def test_no_product_is_left_to_the_device(name):
    f, x = CASES[name]()
    # Compiled first and differentiated then: rules of derivatives are traced after the function.
    compiled = jax.jit(lambda x: f(x))
    program = jax.make_jaxpr(jax.value_and_grad(lambda x: jnp.sum(compiled(x) ** 2)))(x)
    found = list(_left_to_the_device(program.jaxpr))
    assert not found, found[0].source_info.traceback


def test_the_search_finds_what_it_looks_for():
    a = _numbers(3, 3)
    product = jax.jit(lambda a: jax.lax.map(lambda row: jnp.dot(a, row), a))
    assert len(list(_left_to_the_device(jax.make_jaxpr(product)(a).jaxpr))) == 1
    precise = jax.make_jaxpr(full_precision(product))(a).jaxpr
    assert not list(_left_to_the_device(precise))


def test_who_asks_for_less_gets_it():
    with jax.default_matmul_precision("tensorfloat32"):
        program = jax.make_jaxpr(full_precision(jnp.dot))(jnp.ones(3), jnp.ones(3))
    assert program.eqns[-1].params["precision"][0] == jax.lax.Precision.HIGH
    assert jax.config.jax_default_matmul_precision is None
