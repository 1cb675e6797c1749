"""A slice of benchmarks/property_cases.py and all of the NaN stages that cost little.

Each public call of the slice is made with drawn arguments, sound and spoiled in one place: it ends
with an answer that keeps its properties, an error that names the argument, or a failed status.
"""

import jax
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from . import nan_conditions as nan_conditions
from . import nan_stages as nan_stages
from . import property_tables as property_tables
from .nan_report import REPORTED, STAGES, report
from .property_cases import CALLS, FINE, cases, run_case

# Those that compile little: the benchmark has all.
SLICE = [
    "constraints.split_by_importance",
    "data.FieldDataset.from_array",
    "data.FieldDataset.windows",
    "data.GaussianNormaliser",
    "linear_solvers.cg",
    "linear_solvers.sor",
    "neural_operators.ShepardInterpolant",
    "nn.coordinate_channels",
    "numerics.Graph.from_arrays",
    "numerics.rfftn",
    "numerics.segment_sum",
    "numerics.wavenumbers",
    "problems.thin_baffles",
]
# Refused before anything is compiled, or solved on the host.
CHEAP = {
    "data": ("array of a dataset", "MATLAB file", "graph features", "forecast to refine"),
    "operator": ("matrix of cg", "product of cg after 3 calls", "product of dcdm"),
    "preconditioner": ("of cg", "cost told to a bandit"),
    "observation": ("measurement that is declared", "samples of an interpolant"),
    "boundary": ("flux of a Neumann condition", "held node of a network", "speed of a lid"),
    "training loss": ("value", "gradient of a finite value", "batch"),
    "checkpoint": ("constructor arguments of a saved model",),
}


@pytest.mark.parametrize("name", SLICE)
def test_public_call(name):
    @settings(
        max_examples=8,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases(CALLS[name]))
    def run(case):
        # The suite is stricter about promotion than the sessions of users, whom this is about.
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            outcome = run_case(case)
        assert outcome.verdict in FINE, f"{case.spoil} {outcome}"

    run()


@pytest.mark.parametrize(
    ("stage", "where"), [(stage, where) for stage, names in CHEAP.items() for where in names]
)
def test_nan_is_reported(stage, where):
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        assert report(STAGES[stage][where]).how in REPORTED
