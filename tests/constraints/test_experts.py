"""Mixtures of experts: one is the plain layer, many are independent, devices change nothing."""

import functools
import os
import subprocess
import sys
import textwrap

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.constraints import (
    BoxRouter,
    Condition,
    CoordinateBasis,
    Experts,
    HardConstraint,
    LearnedRouter,
    LevenbergMarquardt,
    Points,
    RandomRouter,
    Residual,
    TreeRouter,
    couple_experts,
    split_by_importance,
)
from sciml.core import RESULTS

pytestmark = pytest.mark.usefixtures("x64")
FAST = LevenbergMarquardt(newton_steps=0)
WHERE = np.linspace(0, 1, 31)[:, None]


def layer(*more):
    """Fit a kink by cubics, nonlinearly in the coefficients."""
    basis = CoordinateBasis(lambda x, p: x[0] ** jnp.arange(4.0), coordinates=("x",))
    fit = Residual(
        lambda j, x, p: jnp.exp(0.5 * j["u"]) - jnp.exp(0.5 * p * jnp.abs(x[0] - 0.4)),
        ("u",),
        name="fit",
    )
    return HardConstraint(basis, [fit, *more], solver=FAST)


def boxes(overlap=0.2):
    return BoxRouter((0.0,), (1.0,), (3,), overlap=overlap)


@functools.cache
def solved():
    """Solve two problems by three experts in one program: targets and routed points are data."""
    experts = Experts(layer(), boxes())
    return experts, eqx.filter_jit(lambda p, routed: experts.batch(p, routed))


def first(p=(1.0, 0.3), where=WHERE, weights=None, router=None):
    """Return the first field of the two."""
    experts, solve = solved()
    weights = np.ones(31) if weights is None else weights
    points = {"fit": Points(jnp.asarray(where), jnp.asarray(weights))}
    router = experts.router if router is None else router
    routed = Experts(experts.layer, router).route(points, capacity=25)
    fields = solve(jnp.array(p), routed)
    return jax.tree.map(lambda leaf: np.asarray(leaf)[0] if eqx.is_array(leaf) else leaf, fields)


def test_one_expert_is_the_plain_layer_to_the_bit():
    points = {"fit": jnp.asarray(WHERE)}
    plain = layer()(1.0, points)
    one = Experts(layer(), BoxRouter((0.0,), (1.0,), (1,)))(1.0, points)
    np.testing.assert_array_equal(plain.w, one.w)
    x = jnp.array([0.37])
    assert float(plain(x)) == float(one(x))


def test_experts_do_not_know_of_each_other_and_the_field_is_smooth():
    field = first()
    assert bool(field.check().ok.all())
    # Points in the third box alone change the third expert alone.
    other = first(weights=np.where(np.arange(31) < 28, 1.0, 0.1))
    np.testing.assert_array_equal(field.w[:2], other.w[:2])
    assert np.any(field.w[2] != other.w[2])
    edge, grid = 1 / 3, np.linspace(0, 1, 200)
    where = np.append([edge - 1e-14, edge + 1e-14, edge - 1e-9, edge + 1e-9], grid)
    found = field.jet(jnp.asarray(where[:, None]), ("u", "u_x", "u_xx"))
    jet = {name: np.asarray(values) for name, values in found.items()}
    np.testing.assert_allclose(jet["u"][0], jet["u"][1], atol=1e-12)
    for name in ("u", "u_x", "u_xx"):
        np.testing.assert_allclose(jet[name][2], jet[name][3], rtol=1e-5, atol=1e-5)
    assert np.max(np.abs(jet["u"][4:] - np.abs(grid - 0.4))) < 0.08


def test_a_problem_of_a_batch_is_as_if_alone():
    field = first()
    for other in (1.0, -2.0):
        beside = first((1.0, other))
        np.testing.assert_array_equal(field.w, beside.w)
        np.testing.assert_array_equal(field.stats["n_steps"], beside.stats["n_steps"])


def test_points_that_come_twice_count_half():
    half = np.where(np.arange(31) < 15, 1.0, 0.0)
    once = first(weights=half)
    where = np.concatenate([WHERE[:15], WHERE[:15], WHERE[:1]])
    twice = first(where=where, weights=np.append(np.full(30, 0.5), 0.0))
    np.testing.assert_allclose(once.w, twice.w, rtol=1e-8, atol=1e-12)


def test_the_order_of_boxes_orders_the_experts_and_nothing_else():
    low, high = np.array([[0.0], [0.3], [0.6]]), np.array([[0.3], [0.6], [1.0]])
    order = np.array([2, 0, 1])
    points = {"fit": jnp.asarray(WHERE)}
    given, changed = (
        Experts(layer(), TreeRouter(low[k], high[k], overlap=0.3)).route(points)
        for k in (np.arange(3), order)
    )
    for a, b in zip(jax.tree.leaves(given.local), jax.tree.leaves(changed.local), strict=True):
        np.testing.assert_array_equal(a[order], b)


def test_coupled_experts_know_what_their_neighbours_know():
    """Only the first box touches the end where the value is given; two cubics in each other."""
    basis = CoordinateBasis(
        lambda x, p: p * jnp.stack([jnp.ones_like(x[0]), x[0], x[0] ** 2, x[0] ** 3]),
        coordinates=("x",),
    )
    slope = Residual(lambda j, x, p: j["u_x"] - jnp.cos(5 * x[0]), ("u_x",), name="slope")
    end = Residual(lambda j, x, p: j["u"], ("u",), name="end", everywhere=True)
    each = HardConstraint(basis, [slope, end], solver=FAST, tabulate=False)
    router = BoxRouter((0.0,), (1.0,), (3,), overlap=0.3)
    points = {"slope": jnp.asarray(WHERE), "end": jnp.zeros((1, 1))}
    alone = Experts(each, router)(jnp.asarray(2.0), points).check()

    def together(p):
        field = couple_experts(each, router)(p, points)
        return jnp.sum(field.w**2), field

    (size, field), slope = eqx.filter_jit(eqx.filter_value_and_grad(together, has_aux=True))(
        jnp.asarray(2.0)
    )
    field.check()
    truth = np.sin(5 * WHERE[:, 0]) / 5
    errors = [np.abs(f.jet(jnp.asarray(WHERE), ("u",))["u"] - truth).max() for f in (field, alone)]
    assert errors[0] < 1e-3
    assert errors[1] > 10 * errors[0]
    # The coefficients are those of p = 1 over p: their squares fall as p^-2.
    np.testing.assert_allclose(slope, -2 * size / 2.0, rtol=1e-8)


def test_exact_conditions_hold_for_the_mixed_field():
    """A slope at an interface: each expert's own rows would not give it."""
    slope = Residual(
        lambda j, x, p: j["u_x"] - 0.7,
        ("u_x",),
        name="slope",
        condition=Condition.exact,
        everywhere=True,
    )
    experts = Experts(layer(slope), BoxRouter((0.0,), (1.0,), (2,), overlap=0.3))
    where = jnp.array([[0.5], [0.55]])
    field = experts(1.0, {"fit": jnp.asarray(WHERE), "slope": where})
    np.testing.assert_allclose(field.jet(where, ("u_x",))["u_x"], 0.7, atol=1e-12)
    assert float(field.stats["exact_defect"].max()) < 1e-12


@pytest.mark.parametrize(
    "router",
    [
        BoxRouter((0.0, -1.0), (1.0, 2.0), (2, 3)),
        BoxRouter((0.0, -1.0), (1.0, 2.0), (2, 3), overlap=0.5),
        TreeRouter([(0, 0), (0, 0.3), (0.5, 0.3)], [(1, 0.3), (0.5, 1), (1, 1)], overlap=0.4),
        LearnedRouter(lambda x: jnp.stack([x[0], x[1], x[0] * x[1]]), 3, temperature=0.1),
        RandomRouter(4, seed=3),
    ],
    ids=["boxes", "overlap", "tree", "learned", "random"],
)
def test_shares_sum_to_one(router):
    x = jnp.asarray(np.random.default_rng(8).uniform(size=(200, 2)))
    shares = jax.vmap(router.weights)(x)
    assert shares.shape == (200, router.n_experts)
    np.testing.assert_allclose(shares.sum(1), 1, rtol=1e-14)
    assert float(shares.min()) >= 0
    used = jax.vmap(router.fit_weights)(x) > 0
    assert bool(jnp.all(used | (shares == 0)))


def test_importance_is_cut_in_equal_parts():
    x = np.random.default_rng(4).uniform(size=(4000, 2))
    importance = np.exp(-8 * x[:, 0])
    router = split_by_importance(x, importance, (0, 0), (1, 1), 4)
    shares = np.asarray(jax.vmap(router.weights)(jnp.asarray(x)))
    parts = importance @ shares / importance.sum()
    assert 0.15 < parts.min() < parts.max() < 0.35


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e20])
def test_a_random_assignment_is_one_in_any_unit(unit):
    x = unit * jnp.asarray(np.random.default_rng(8).uniform(size=(400, 2)))
    counts = np.asarray(jax.vmap(RandomRouter(4).weights)(x)).sum(0)
    assert counts.min() > 60


def test_importance_in_one_point_or_in_none():
    x = np.linspace(0, 1, 41)[:, None]
    one = np.where(np.arange(41) == 12, 1e-300, 0)
    router = split_by_importance(x, one, (0.0,), (1.0,), 30)
    assert router.n_experts == 30
    assert np.min(np.subtract(router.upper, router.lower)) > 1e-9
    with pytest.raises(ValueError, match="zero at all `points` between"):
        split_by_importance(np.array([[0.5], [5.0]]), np.array([0.0, 1.0]), (0.0,), (1.0,), 2)


def gated_loss(slope, points=None):
    """Return the error of a field that a gate mixes; its points are routed inside unless given."""
    router = LearnedRouter(lambda x: slope * jnp.stack([x[0] - 0.4, 0.4 - x[0]]), 2)
    field = Experts(layer(), router)(1.0, points or {"fit": jnp.asarray(WHERE)})
    grid = jnp.asarray(WHERE) + 0.01
    return jnp.sum((field.jet(grid, ("u",))["u"] - jnp.abs(grid[:, 0] - 0.4)) ** 2)


value_and_slope = jax.jit(jax.value_and_grad(gated_loss))


def test_a_gate_gets_its_gradient():
    h = 1e-3
    value = {k: float(value_and_slope(5 + k * h)[0]) for k in (-2, -1, 1, 2)}
    central = [(value[k] - value[-k]) / (2 * k * h) for k in (1, 2)]
    slope = value_and_slope(5.0)[1]
    np.testing.assert_allclose(slope, (4 * central[0] - central[1]) / 3, rtol=1e-5)


def test_points_routed_once_follow_the_gate():
    """They used to keep the weights of the gate at that time, and gave it no gradient."""
    old = LearnedRouter(lambda x: jnp.zeros(2), 2)
    routed = Experts(layer(), old).route({"fit": jnp.asarray(WHERE)})
    np.testing.assert_allclose(value_and_slope(5.0, routed), value_and_slope(5.0), rtol=1e-12)


@pytest.mark.parametrize("overlap", [0.0, 0.2])
def test_a_point_that_is_no_number_does_not_vanish(overlap):
    where = np.where(np.arange(31) == 3, np.nan, WHERE[:, 0])[:, None]
    field = first(where=where, router=boxes(overlap))
    assert bool((field.result == RESULTS.nonfinite_rows).all())


def test_an_expert_without_numbers_leaves_the_field_of_the_others():
    def net(x, p):
        return jnp.stack([x[0], jnp.sqrt(p - x[0])])

    basis = CoordinateBasis(net, coordinates=("x",))
    fit = Residual(lambda j, x, p: j["u"] - x[0], ("u",), name="fit")
    mixture = Experts(HardConstraint(basis, [fit], solver=FAST), BoxRouter((0.0,), (1.0,), (2,)))
    field = mixture(0.7, {"fit": jnp.asarray(WHERE)})
    assert field.ok.tolist() == [True, False]
    assert bool((field.result == RESULTS.nonfinite_rows)[1])
    np.testing.assert_allclose(field(jnp.array([0.3])), 0.3, rtol=1e-8)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="must tile the domain"):
        TreeRouter([(0,), (0.4,)], [(0.5,), (1,)])
    with pytest.raises(ValueError, match="one entry an axis"):
        BoxRouter((0.0, 0.0), (1.0, 1.0), (2,))
    with pytest.raises(ValueError, match=r"at most 0\.5"):
        BoxRouter((0.0,), (1.0,), (2,), overlap=0.7)
    mesh = jax.make_mesh((1,), ("expert",))
    with pytest.raises(ValueError, match=r"AxisType\.Auto"):
        Experts(layer(), BoxRouter((0.0,), (1.0,), (2,)), mesh=mesh)


def test_boxes_whose_faces_differ_by_rounding_leave_no_gap(x64):
    router = TreeRouter([[0.1 * i] for i in range(10)], [[0.1 * i + 0.1] for i in range(10)])
    at = jnp.asarray([[0.1 * i] for i in range(11)])
    np.testing.assert_array_equal(jax.vmap(router.weights)(at).sum(1), 1.0)


COMMON = """
    import os, sys
    os.environ["JAX_PLATFORMS"] = "cpu"
    import equinox as eqx
    import jax, jax.numpy as jnp, numpy as np
    from jax.sharding import AxisType
    jax.config.update("jax_enable_x64", True)
    from sciml.constraints import *

    def experts(mesh, blocks=("fit", "end"), **options):
        basis = CoordinateBasis(lambda x, p: jnp.cos(p * jnp.arange(4) * 3 * x[0]),
                                coordinates=("x",))
        fit = Residual(lambda j, x, p: jnp.exp(j["u"]) - 1 - x[0] ** 2, ("u",), name="fit")
        end = Residual(lambda j, x, p: j["u"], ("u",), name="end", everywhere=True)
        solver = LevenbergMarquardt(newton_steps=0)
        given = [each for each in (fit, end) if each.name in blocks]
        layer = HardConstraint(basis, given, solver=solver, **options)
        return Experts(layer, BoxRouter((0.0,), (1.0,), (3,), overlap=0.2), mesh=mesh)

    POINTS = {"fit": np.linspace(0, 1, 41)[:, None], "end": np.zeros((5, 1))}
    P = np.array([0.8, 1.3])

    def program(mesh):
        mixture = experts(mesh)
        routed = mixture.route(POINTS)
        def loss(p):
            fields = mixture.batch(p, routed)
            return jnp.sum(fields.w ** 2), (fields.w, fields.stats["n_steps"])
        return jax.jit(jax.value_and_grad(loss, has_aux=True))

    def mesh_of(shape, names):
        return jax.make_mesh(shape, names, axis_types=(AxisType.Auto,) * len(names))
"""


def virtual_devices(n):
    """Return compiler flags for a process that sees ``n`` devices."""
    return f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={n}"


def run(script, *arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(COMMON) + textwrap.dedent(script), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | environment,
    )


def test_devices_change_nothing_and_no_loop_waits_for_another():
    """Four virtual devices: the same numbers, and no collective inside any loop of the HLO."""
    script = """
    import re
    def in_loops(text):
        bodies, name = {}, None
        for line in text.splitlines():
            head = re.match(r"^(?:ENTRY )?%?([\\w.\\-]+) .*\\{$", line)
            if head:
                name = head.group(1); bodies[name] = []
            elif name:
                bodies[name].append(line)
        found = lambda lines: sum(
            bool(re.search(r" (all-reduce|all-gather|all-to-all|collective-permute)", l))
            for l in lines)
        pattern = r"while\\(.*condition=%?([\\w.\\-]+), body=%?([\\w.\\-]+)"
        todo = [n for lines in bodies.values() for l in lines
                for pair in re.findall(pattern, l) for n in pair]
        inside = set()
        while todo:
            name = todo.pop()
            if name in bodies and name not in inside:
                inside.add(name)
                for l in bodies[name]:
                    todo += re.findall(r"(?:calls|to_apply|condition|body)=%?([\\w.\\-]+)", l)
        assert inside, "no loop found"
        return sum(found(bodies[n]) for n in inside), sum(map(found, bodies.values()))

    (value, (w, steps)), slope = program(None)(P)
    for shape, names in (((2, 2), ("data", "expert")), ((2, 2), ("expert", "point"))):
        compiled = program(mesh_of(shape, names)).lower(P).compile()
        (other, (w2, steps2)), slope2 = compiled(P)
        np.testing.assert_allclose(w2, w, rtol=1e-8)
        np.testing.assert_allclose(slope2, slope, rtol=1e-8)
        inside, total = in_loops(compiled.as_text())
        assert total > 0, "nothing was spread"
        if "point" in names:
            assert inside > 0, "the count does not see the sums over points"
        else:
            assert inside == 0, inside
            np.testing.assert_array_equal(steps2, steps)
    print("as one device")
    """
    process = run(script, XLA_FLAGS=virtual_devices(4))
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    assert "as one device" in output


def test_two_processes():
    """Two processes with two devices each over loopback (gloo): each has the same loss."""
    script = """
    jax.distributed.initialize(sys.argv[1], num_processes=2, process_id=int(sys.argv[2]))
    assert jax.device_count() == 4
    # Plain, for little to compile: which functions are fitted to what concerns no process.
    mixture = experts(mesh_of((4,), ("expert",)), blocks=("fit",), whiten=False)
    @jax.jit
    def loss(p):
        routed = mixture.route({"fit": POINTS["fit"]}, capacity=25)
        return jnp.sum(mixture.batch(p, routed).w ** 2)
    print("loss", float(loss(P)))
    """
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    flags = {"XLA_FLAGS": virtual_devices(2), "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo"}
    pair = [run(script, address, str(k), **flags) for k in (0, 1)]
    outputs = [process.communicate(timeout=600)[0] for process in pair]
    assert [process.returncode for process in pair] == [0, 0], outputs
    losses = [[line for line in text.splitlines() if "loss" in line][-1] for text in outputs]
    assert losses[0] == losses[1]
