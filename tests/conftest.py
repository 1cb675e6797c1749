"""Settings of the whole suite: strict dtype promotion and fresh keys."""

import itertools
import signal

import jax
import pytest

# A shell that starts the suite in the background makes it ignore Ctrl-C, which some tests press.
signal.signal(signal.SIGINT, signal.default_int_handler)

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def getkey():
    """Return a function that gives a new typed key at each call."""
    counter = itertools.count()
    base = jax.random.key(5678)

    def next_key():
        return jax.random.fold_in(base, next(counter))

    return next_key


@pytest.fixture
def x64():
    """Run the test in float64."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(autouse=True, scope="module")
def _clear_caches():
    """Free compiled programs after each file: the memory of a long JAX suite grows otherwise."""
    yield
    jax.clear_caches()
