"""A slice of benchmarks/transform_cases.py, and that its judge finds faults that are planted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from sciml.constraints import split_by_importance
from sciml.data import FieldDataset
from sciml.linear_solvers import cg
from sciml.neural_operators import NearestSample
from sciml.numerics import Graph, most_neighbours

from . import property_tables as property_tables
from .case_runs import drawn
from .property_cases import CALLS, Call
from .transform_cases import FINDINGS, Verdict, judge_transforms


def _judge(call, arguments):
    # The suite is stricter about promotion than the sessions of users, whom this is about.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return judge_transforms(call, arguments)


@pytest.mark.parametrize(
    "name", ["numerics.segment_mean", "numerics.sine", "neural_operators.ThinPlateSpline"]
)
def test_public_call(name):
    call = CALLS[name]
    arguments = drawn(st.composite(lambda draw: call.draw(draw))(), name, seed=5, n_cases=2)
    found = _judge(call, arguments[-1])
    assert not [judgement for judgement in found if judgement.verdict in FINDINGS]
    assert not [judgement for judgement in found if judgement.verdict is Verdict.UNSOUND]


@jax.custom_jvp
def _wrong(x):
    return jnp.sin(x)


_wrong.defjvp(lambda x, v: (jnp.sin(x[0]), 1.01 * jnp.cos(x[0]) * v[0]))


@jax.custom_batching.custom_vmap
def _other_in_a_batch(x):
    return jnp.sin(x)


@_other_in_a_batch.def_vmap
def _rule(axis_size, in_batched, x):
    return jnp.sin(x) * (1 + 1e-9), True


_POINT = np.array([0.3, -0.8])
_FAULTS = {
    "wrong derivative": (_wrong, _POINT, "derivative", Verdict.WRONG),
    "reads a traced value": (lambda x: x * float(x[0]), _POINT, "jit", Verdict.OBSCURE),
    "another answer in a batch": (_other_in_a_batch, _POINT, "vmap", Verdict.DIFFERENT),
    "held constant": (
        lambda x: jax.lax.stop_gradient(jnp.sin(x)),
        _POINT,
        "derivative",
        Verdict.ZERO,
    ),
    "norm of zero": (lambda x: jnp.sqrt(jnp.sum(x**2)), 0 * _POINT, "derivative", Verdict.NAN),
    "another answer when traced": (
        lambda x: x + 1e-9 * isinstance(x, jax.core.Tracer),
        _POINT,
        "jit",
        Verdict.DIFFERENT,
    ),
}


@pytest.mark.parametrize("fault", _FAULTS)
def test_judge_finds(fault):
    function, x, transform, verdict = _FAULTS[fault]
    call = Call("planted.fault", function, lambda draw: {"x": x}, check=lambda *_, **__: None)
    found = _judge(call, {"x": x})
    assert (transform, verdict) in [(judgement.transform, judgement.verdict) for judgement in found]


def test_judge_takes_a_kink_for_one():
    call = Call("planted.kink", jnp.abs, lambda draw: {}, check=lambda *_, **__: None)
    x = np.array([1e-9, 0.5])
    found = {judgement.transform: judgement.verdict for judgement in _judge(call, {"x": x})}
    assert not set(found.values()) & set(FINDINGS)


_DOORS = {
    "dataset": lambda x: (
        FieldDataset.from_array(x[None, :, None], dt=1.0, domain_extent=1.0).values
    ),
    "graph": lambda x: Graph.from_arrays(x, x, np.arange(4), np.arange(4)).nodes,
    "room": lambda x: most_neighbours(x[None], 0.1),
    "interpolant": lambda x: NearestSample()(x, x[None]),
    "boxes": lambda x: split_by_importance(x, x[0], (0.0,) * 4, (1.0,) * 4, 2).upper,
    "matrix": lambda x: cg(x, x[0])[0],
}


@pytest.mark.parametrize("door", _DOORS)
def test_work_on_the_host_is_refused_under_jit_in_words(door):
    with pytest.raises(TypeError, match=r"is traced, but .* on the host: do it outside `jax.jit`"):
        jax.eval_shape(_DOORS[door], jax.ShapeDtypeStruct((4, 4), "float32"))
