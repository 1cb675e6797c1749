"""Settings of tests and docstring examples alike; the tests are stricter (tests/conftest.py)."""

# ruff: noqa: E402  (the environment is set before jax starts)
import gc
import os
import subprocess
import sys

# Before jax is imported. The tests need no accelerator; set the variable to run them on one.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

# What the tests run is small, so that compiling it is most of their time; these make it three times
# cheaper. Set XLA_FLAGS (an empty string will do) to compile as users do; the demo, the gallery
# and the benchmarks always do.
QUICK_COMPILATION = (
    "--xla_cpu_use_fusion_emitters=false",
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    # Otherwise each program is compiled in up to 32 parts, for threads that two cores do not have.
    "--xla_cpu_parallel_codegen_split_count=1",
)


def _is_known(flags: tuple[str, ...]) -> bool:
    """Return whether this jaxlib takes the flags: an unknown one ends its process."""
    command = [sys.executable, "-c", "import jax; jax.devices()"]
    environment = os.environ | {"XLA_FLAGS": " ".join(flags)}
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    return done.returncode == 0


# The workers of pytest-xdist and the processes that tests start inherit what is found here.
if "XLA_FLAGS" not in os.environ:
    known = QUICK_COMPILATION
    if not _is_known(known):
        known = tuple(flag for flag in known if _is_known((flag,)))
    os.environ["XLA_FLAGS"] = " ".join(known)

# Nobody reads which line an operation in a compiled program came from: a tenth of the time.
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")

import jax
import pytest


def pytest_collection_finish():
    """Collect garbage seldom: tracing makes many objects and few cycles, and it cost a tenth."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


@pytest.fixture(autouse=True)
def _session_of_a_user(request):
    if isinstance(request.node, pytest.DoctestItem):
        # A class that an example defines belongs to the user, not to the module of the docstring.
        request.getfixturevalue("doctest_namespace")["__name__"] = "__main__"
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            yield
    else:
        yield
