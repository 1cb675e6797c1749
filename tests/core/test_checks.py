"""Each check accepts what it should and names argument, expectation and arrival otherwise."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from sciml.core import (
    check_count,
    check_finite,
    check_flags,
    check_floating,
    check_key,
    check_mesh,
    check_non_negative,
    check_not_traced,
    check_positive,
    check_shape,
)


@pytest.mark.parametrize("value", [1, 0.5, np.float32(2), np.int8(3), jnp.float32(1e-30)])
def test_positive_accepts(value):
    check_positive("dt", value)


@pytest.mark.parametrize("value", [0, -1.0, np.nan, np.inf, -np.inf])
def test_positive_refuses_by_name(value):
    with pytest.raises(ValueError, match=r"`dt` must be positive and finite seconds, got"):
        check_positive("dt", value, unit="seconds")


@pytest.mark.parametrize("value", ["1", None, True, 1j, np.ones(2), [1.0]])
def test_positive_refuses_what_is_no_number(value):
    with pytest.raises(TypeError, match=r"`dt` must be a real number, got"):
        check_positive("dt", value)


def test_non_negative():
    check_non_negative("drag", 0.0)
    check_non_negative("drag", jnp.bfloat16(0.5))
    with pytest.raises(ValueError, match=r"`drag` must be zero or positive.*-0\.1"):
        check_non_negative("drag", -0.1)


def test_traced_values_pass():
    @jax.jit
    def f(x):
        check_positive("x", x)
        check_non_negative("x", x)
        check_finite("x", x)
        check_floating("x", x)
        return x

    assert f(-1.0) == -1.0


def test_count():
    assert check_count("n", np.int64(3)) == 3
    assert type(check_count("n", np.int64(3))) is int
    assert check_count("n", 0, minimum=0) == 0
    with pytest.raises(ValueError, match=r"`n` must be at least 1, got 0"):
        check_count("n", 0)
    for wrong in (3.0, "3", None, np.ones(2)):
        with pytest.raises(TypeError, match="`n` must be an integer, got"):
            check_count("n", wrong)
    for wrong in (True, np.True_):
        with pytest.raises(TypeError, match="boolean"):
            check_count("n", wrong)


def test_shape():
    assert check_shape("u", np.zeros((2, 8, 8)), ("c", "x", "x")) == {"c": 2, "x": 8}
    assert check_shape("u", jax.ShapeDtypeStruct((3,), jnp.float32), (3,)) == {}
    with pytest.raises(ValueError, match=re.escape("axis 2 of `u` must have size `x` = 8")):
        check_shape("u", np.zeros((2, 8, 9)), ("c", "x", "x"))
    with pytest.raises(ValueError, match=re.escape("axis 0 of `u` must have size 1")):
        check_shape("u", np.zeros((2, 8)), (1, "x"))
    with pytest.raises(ValueError, match=r"`u` must have 2 axes \(c, x\), got shape \(2,\)"):
        check_shape("u", np.zeros(2), ("c", "x"))


def test_floating():
    for good in (np.zeros(2), jnp.zeros(2, jnp.bfloat16), 1.0, jnp.zeros(2, jnp.float16)):
        check_floating("u", good)
    with pytest.raises(TypeError, match=r"`u` .*complex64.*two channels"):
        check_floating("u", jnp.zeros(2, jnp.complex64))
    for integer in (np.zeros(2, int), 3, np.zeros(2, bool)):
        with pytest.raises(TypeError, match=r"astype\('float32'\)"):
            check_floating("u", integer)
    for other in ("text", jax.random.key(5), np.array([None])):
        with pytest.raises(TypeError, match="`u` must be real floating-point, got dtype"):
            check_floating("u", other)


def test_finite_names_the_first_bad_entry():
    values = np.zeros((3, 4))
    check_finite("u", values)
    check_finite("u", np.arange(3))
    values[1, 2] = np.nan
    values[2, 0] = np.inf
    with pytest.raises(ValueError, match=r"`u` has 2 non-finite.* of 12.*nan at index \(1, 2\)"):
        check_finite("u", values)
    with pytest.raises(ValueError, match=r"`u` has 1 non-finite.*at index \(0,\)"):
        check_finite("u", jnp.array([jnp.inf, 0.0], jnp.bfloat16))
    with pytest.raises(TypeError, match="`u` must hold numbers"):
        check_finite("u", np.array(["a"]))


def test_key():
    check_key(jax.random.key(5))
    jax.vmap(check_key)(jax.random.split(jax.random.key(5), 3))
    for other in (5, None, jax.random.PRNGKey(5), jax.random.split(jax.random.key(5), 3)):
        with pytest.raises(TypeError, match=r"`key` must be a typed key, .*jax\.random\.key"):
            check_key(other)


def test_meshes():
    explicit = jax.make_mesh((1,), ("a",), axis_types=(AxisType.Explicit,))
    assert check_mesh(explicit).axis_types == (AxisType.Auto,)
    with pytest.raises(TypeError, match=r"`mesh` must be a mesh of devices .* got int"):
        check_mesh(4)


@pytest.mark.parametrize("check", [check_positive, check_finite, check_floating])
def test_a_ragged_list_is_named(check):
    with pytest.raises(TypeError, match="`lower` must be an array, got a ragged list"):
        check("lower", [np.zeros(3), 1.0])


@pytest.mark.parametrize("flags", [("yes", "no"), (1, 0), True, None, [[True, False], True]])
def test_flags_are_booleans(flags):
    with pytest.raises(TypeError, match="`periodic` must hold a boolean of each axis"):
        check_flags("periodic", flags, 2)


def test_flags_have_a_number():
    flags = check_flags("periodic", np.asarray([True, False]), 2)
    assert flags == (True, False)
    assert type(flags[0]) is bool
    assert check_flags("periodic", [np.True_]) == (True,)
    with pytest.raises(ValueError, match="3 booleans, one of each axis"):
        check_flags("periodic", flags, 3)
    with pytest.raises(ValueError, match="at least one boolean"):
        check_flags("periodic", ())


def test_what_is_done_on_the_host_says_so():
    def call(x):
        check_not_traced("nodes", {"x": x}, "a graph is made")
        return x

    call(jnp.ones(2))
    for transform in (jax.jit, jax.vmap, jax.grad):
        with pytest.raises(TypeError, match=r"`nodes` is traced, but a graph is made on the host"):
            transform(call)(jnp.ones(2))
