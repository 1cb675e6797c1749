"""Docstring examples run as in a user's session; the tests are stricter (tests/conftest.py)."""

import jax
import pytest


@pytest.fixture(autouse=True)
def _session_of_a_user(request):
    if isinstance(request.node, pytest.DoctestItem):
        # A class that an example defines belongs to the user, not to the module of the docstring.
        request.getfixturevalue("doctest_namespace")["__name__"] = "__main__"
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            yield
    else:
        yield
