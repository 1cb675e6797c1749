"""The float64 guard tells how to turn float64 on, and follows JAX's switch."""

import jax
import jax.numpy as jnp
import pytest

from sciml.core import float64_enabled, real_dtype, require_float64


def test_float32():
    assert not float64_enabled()
    assert real_dtype() == jnp.float32
    with pytest.raises(ValueError, match=r"This job needs float64.*jax_enable_x64"):
        require_float64("This job")


def test_float64(x64):
    assert float64_enabled()
    assert real_dtype() == jnp.float64
    require_float64("This job")


def test_the_remedies_of_the_message_work():
    with jax.enable_x64(True):
        require_float64("This job")
