"""Settings of these tests: what they run is tiny, so compiling it is nearly all of their time."""

import jax
import pytest


@pytest.fixture(autouse=True, scope="module")
def _compile_quickly():
    """Leave out most optimisations; subprocesses compile as users do."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
