"""sciml refine: what it writes and tells, windows, files of forecasts, failures, bad input."""

import os
import signal
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import pytest

import sciml as library
from sciml.cli import _refine_job, _refine_task
from sciml.core import RESULTS, Solution
from sciml.data import FieldDataset, NavierStokesRecipe, save_dataset
from sciml.neural_operators import (
    LBFGS,
    SFNO,
    CollocationResidual,
    FiniteDifferenceResidual,
    NewtonGMRES,
    OutputLayerLBFGS,
    Persistence,
    SolverDefectResidual,
)
from sciml.numerics import relative_l2
from sciml.problems import solve

N_IN, N_STEPS = 4, 4
LENGTHS = ("--n-in", N_IN, "--n-steps", N_STEPS)


@pytest.fixture(scope="module")
def flow() -> FieldDataset:
    """Three short forced flows with drag on 16 x 16 points, rounded to float32."""
    recipe = NavierStokesRecipe(n_points=16, viscosity=0.01, drag=0.1, dt=0.1, solver_dt=0.05)
    with jax.enable_x64(True):
        starts = np.random.default_rng(6203).normal(size=(3, 2, 2))
        x = 2 * np.pi * np.arange(16) / 16
        waves = np.stack([np.sin(x), np.cos(2 * x)])
        march = jax.jit(
            lambda start: (
                solve(
                    recipe.problem(), start, dt=0.05, n_steps=2 * (N_IN + N_STEPS - 1), save_every=2
                ).value
            )
        )
        values = [march(np.einsum("ab,ax,by->xy", start, waves, waves)[None]) for start in starts]
        return FieldDataset.from_array(
            np.asarray(values, np.float32),
            dt=0.1,
            domain_extent=1.0,
            channels=("vorticity",),
        ).replace(
            context=recipe.context().astype(np.float32),
            context_names=("forcing",),
            attributes=recipe.as_attributes(),
            start_time=1.0,
        )


@pytest.fixture(scope="module")
def flow_file(tmp_path_factory, flow) -> Path:
    return save_dataset(tmp_path_factory.mktemp("flow") / "flow.npz", flow)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """The folder of an SFNO that learned nothing; tests must not change it."""
    module = SFNO(
        1,
        dt=0.1,
        horizon=N_STEPS * 0.1,
        n_modes=(3, 3, 3),
        hidden_channels=4,
        n_layers=2,
        latent_steps=8,
        context_channels=1,
        key=jax.random.key(5),
    )
    folder = tmp_path_factory.mktemp("models") / "sfno"
    library.save(folder, module)
    return folder


def _table(text: str) -> dict[str, list[str]]:
    """Return the entries of each row of the table by the first word of the method."""
    lines = text.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("---")) + 1
    rows = {}
    for line in lines[first:]:
        if not line:
            break
        name, *entries = [entry.strip() for entry in line.split("  ") if entry.strip()]
        rows[name] = entries
    return rows


def _files() -> set[str]:
    return {str(path) for path in Path().rglob("*") if path.is_file()}


def test_it_refines_and_tells_all_methods(sciml, flow, flow_file, model):
    outcome = sciml("refine", model, flow_file, *LENGTHS, "--out", "o.npz", "--figure", "f.png")
    assert outcome.status == 0, outcome.err
    made = library.data.load("o.npz")
    assert made.values.shape == (3, N_STEPS, 1, 16, 16)
    assert made.values.dtype == np.float64
    assert made.start_time == pytest.approx(1.0 + N_IN * 0.1)
    assert made.attributes["refined_by"] == "NewtonGMRES"
    assert made.attributes["viscosity"] == 0.01
    truth = flow.values[:, N_IN:]
    for refined, true in zip(made.values, truth, strict=True):
        assert relative_l2(refined, true.astype(np.float64)) < 1e-4
    rows = _table(outcome.out)
    assert list(rows) == [
        *("persistence", "SpatiotemporalFNO", "refined", "ETDRK4, 2 steps/snapshot"),
        "the file's own snapshots",
    ]
    errors = {name: float(entries[0]) for name, entries in rows.items() if entries[0] != "-"}
    assert errors["refined"] < 1e-4 < 0.01 < errors["SpatiotemporalFNO"]
    residuals = {name: float(entries[2]) for name, entries in rows.items()}
    assert residuals["refined"] < 1e-8 < residuals["ETDRK4, 2 steps/snapshot"]
    assert "matrix-vector products" in outcome.out
    assert Path("f.png").stat().st_size > 0
    assert not jax.config.jax_enable_x64


@pytest.fixture
def calls(monkeypatch):
    """Refinements that were asked for; none is done."""
    made = []

    def fake(prediction, inputs, problem, **arguments):
        made.append({"prediction": prediction, "inputs": inputs, "problem": problem} | arguments)
        stats = {"n_matvecs": 0, "n_gradients": 0, "relative_eta": 1e-10}
        value = np.broadcast_to(inputs[-1:], (N_STEPS, *inputs.shape[1:]))
        return Solution(value, RESULTS.successful, stats)

    monkeypatch.setattr(_refine_task, "refine", fake)
    return made


RESIDUALS = {
    ("--order", "2"): FiniteDifferenceResidual(2),
    ("--residual", "defect", "--substeps", "2"): SolverDefectResidual(substeps=2),
    ("--residual", "collocation", "--n-nodes", "7"): CollocationResidual(7),
}


@pytest.mark.parametrize("words", RESIDUALS, ids=lambda words: words[-2])
def test_residuals_reach_the_library(words, sciml, flow_file, model, calls):
    outcome = sciml("refine", model, flow_file, *LENGTHS, "--out", "o.npz", *words)
    assert outcome.status == 0, outcome.err
    assert len(calls) == 3
    assert eqx.tree_equal(calls[0]["residual"], RESIDUALS[words])
    assert calls[0]["prediction"].shape == (N_STEPS, 1, 16, 16)
    assert calls[0]["prediction"].dtype == np.float64


METHODS = {
    ("--max-matvecs", "9"): NewtonGMRES(max_matvecs=9),
    ("--method", "lbfgs", "--n-iterations", "30"): LBFGS(30),
    ("--method", "output-layer"): OutputLayerLBFGS(),
}


@pytest.mark.parametrize("words", METHODS, ids=lambda words: words[1])
def test_methods_reach_the_library(words, sciml, flow_file, model, calls):
    words = (*words, "--n-samples", "2", "--rtol", "1e-3")
    outcome = sciml("refine", model, flow_file, *LENGTHS, "--out", "o.npz", *words)
    assert outcome.status == 0, outcome.err
    assert len(calls) == 2
    assert eqx.tree_equal(calls[0]["method"], METHODS[words[:-4]])
    assert calls[0]["rtol"] == 1e-3
    assert callable(calls[0]["prediction"]) == ("output-layer" in words)


def test_the_model_predicts_windows_anew(sciml, flow_file, model, calls):
    words = ("--window", "2", "--residual", "defect")
    outcome = sciml("refine", model, flow_file, *LENGTHS, "--out", "o.npz", *words)
    assert outcome.status == 0, outcome.err
    assert calls[0]["window"] == 2
    # What a window of differences is too short for joins the one before.
    rest = ("--window", "3", "--residual", "finite-differences", "--overwrite")
    outcome = sciml(
        "refine", model, flow_file, "--n-in", 2, "--n-steps", 4, "--out", "o.npz", *rest
    )
    assert outcome.status == 0, outcome.err
    assert calls[0]["n_steps"] == N_STEPS
    assert calls[0]["context"].shape == (1, 16, 16)
    assert {leaf.dtype for leaf in jax.tree.leaves(eqx.filter(calls[0]["prediction"], eqx.is_array))
            } == {np.dtype(np.float64)}  # fmt: skip


def test_forecasts_of_a_file_are_refined_alike(sciml, flow_file, model):
    assert sciml("predict", model, flow_file, *LENGTHS, "--out", "p.npz").status == 0
    words = (flow_file, "--n-samples", "1")
    outcome = sciml("refine", "p.npz", *words, "--out", "a.npz")
    assert outcome.status == 0, outcome.err
    assert sciml("refine", model, *words, *LENGTHS, "--out", "b.npz").status == 0
    a, b = (library.data.load(name) for name in ("a.npz", "b.npz"))
    # Newton's method ends at one solution from either rounding of the forecast.
    np.testing.assert_allclose(a.values, b.values, atol=1e-7)
    assert a.attributes == b.attributes


def test_a_missed_tolerance_is_told_and_what_was_reached_is_written(sciml, flow_file, model):
    words = ("refine", model, flow_file, *LENGTHS, "--out", "o.npz", "--max-matvecs", "3")
    outcome = sciml(*words)
    assert outcome.status == 1
    # Above it XLA may speak of the programs that the tests keep.
    error = outcome.err.splitlines()[-1]
    assert "3 of 3 trajectories did not reach --rtol 1e-09" in error
    assert "o.npz" in error
    assert outcome.out.count("used up its steps") == 3
    assert library.data.load("o.npz").values.shape == (3, N_STEPS, 1, 16, 16)
    residuals = {name: float(entries[2]) for name, entries in _table(outcome.out).items()}
    assert residuals["refined"] <= residuals["SpatiotemporalFNO"]


def test_a_file_without_the_future_has_no_errors_to_tell(sciml, flow, model, tmp_path):
    path = save_dataset(tmp_path / "past.npz", flow.slice_times(0, N_IN))
    words = (*LENGTHS, "--n-samples", "1", "--figure", "f.png")
    outcome = sciml("refine", model, path, "--out", "o.npz", *words)
    assert outcome.status == 0, outcome.err
    assert "relative L2" not in outcome.out
    assert library.data.load("o.npz").values.shape == (1, N_STEPS, 1, 16, 16)
    assert Path("f.png").exists()


def test_coefficients_that_the_file_does_not_say(sciml, flow, tmp_path):
    bare = flow.replace(attributes={}, context=None, context_names=())
    path = save_dataset(tmp_path / "bare.npz", bare)
    library.save("model", Persistence())
    words = ("refine", "model", path, *LENGTHS, "--n-samples", "1")
    missing = sciml(*words, "--out", "o.npz")
    assert missing.status == 2
    assert "pass --viscosity" in missing.error
    missing = sciml(*words, "--out", "o.npz", "--viscosity", "0.01")
    assert "pass --forcing" in missing.error
    said = ("--viscosity", "0.01", "--drag", "0.1", "--forcing", "fno")
    outcome = sciml(*words, "--out", "o.npz", *said)
    assert outcome.status == 0, outcome.err
    assert "Note:" not in outcome.out
    assert (
        relative_l2(library.data.load("o.npz").values[0], flow.values[0, N_IN:].astype(float))
        < 1e-4
    )
    # The wrong equation is solved as well as the right one: the data show which it was.
    said = ("--viscosity", "0.03", "--drag", "0.1", "--forcing", "fno")
    outcome = sciml(*words, "--out", "wrong.npz", *said)
    assert outcome.out.count("Note: the file's own snapshots leave a relative residual") == 1


BAD = {
    "no such model": (("nowhere", "DATA"), "no such run"),
    "no such data": (("RUN", "no.h5"), "no.h5"),
    "no steps": (("RUN", "DATA", "--n-steps", "0"), "--n-steps"),
    "no samples": (("RUN", "DATA", "--n-samples", "0"), "--n-samples"),
    "too many inputs": (("RUN", "DATA", "--n-in", "99"), "99 snapshots"),
    "tolerance zero": (("RUN", "DATA", "--rtol", "0"), "--rtol"),
    "tolerance NaN": (("RUN", "DATA", "--rtol", "nan"), "--rtol"),
    "no window": (("RUN", "DATA", "--window", "0"), "--window"),
    "no products": (("RUN", "DATA", "--max-matvecs", "0"), "--max-matvecs"),
    "order of another residual": (("RUN", "DATA", "--residual", "defect", "--order", "4"), "order"),
    "substeps of another": (("RUN", "DATA", "--substeps", "2"), "--residual defect"),
    "products of another": (
        ("RUN", "DATA", "--method", "lbfgs", "--max-matvecs", "9"),
        "--method newton",
    ),
    "iterations of newton": (("RUN", "DATA", "--n-iterations", "9"), "--max-matvecs"),
    "history too short": (
        ("RUN", "DATA", "--n-in", "1", "--n-steps", "3"),
        "need 5 snapshots",
    ),
    "viscosity stated": (("RUN", "DATA", "--viscosity", "0.02"), "leave out --viscosity"),
    "viscosity negative": (("RUN", "DATA", "--viscosity", "-1"), "--viscosity must be"),
    "drag NaN": (("RUN", "DATA", "--drag", "nan"), "--drag must be"),
    "forcing held": (("RUN", "DATA", "--forcing", "fno"), "leave out --forcing"),
    "other suffix": (("RUN", "DATA", "--out", "o.txt"), ".npz"),
    "no such folder": (("RUN", "DATA", "--out", "no/o.npz"), "does not exist"),
    "figure suffix": (("RUN", "DATA", "--figure", "f.gif"), ".png"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments(case, sciml, flow_file, model):
    arguments, words = BAD[case]
    arguments = [{"DATA": flow_file, "RUN": model}.get(word, word) for word in arguments]
    out = () if "--out" in arguments else ("--out", "o.npz")
    lengths = () if {"--n-in", "--n-steps"} & set(arguments) else LENGTHS
    outcome = sciml("refine", *arguments, *lengths, *out)
    assert outcome.status == 2
    assert words in outcome.error
    assert _files() == set()


FLOWS = {
    "two channels": (
        lambda f: f.replace(values=np.repeat(f.values, 2, 2), channels=("u", "v")),
        "one channel on two axes",
    ),
    "walls": (lambda f: f.replace(periodic=(True, False)), "not periodic"),
    "another equation": (
        lambda f: f.replace(attributes=f.attributes | {"equation": "Burgers"}),
        "'Burgers'",
    ),
    "viscosity in words": (
        lambda f: f.replace(attributes=f.attributes | {"viscosity": "small"}),
        "must be a number, got 'small'",
    ),
    "no viscosity": (
        lambda f: f.replace(attributes=f.attributes | {"viscosity": 0.0}),
        "the viscosity is 0",
    ),
    "unknown forcing": (
        lambda f: f.replace(
            attributes=f.attributes | {"forcing": "wind"}, context=None, context_names=()
        ),
        "'wind'",
    ),
    "forcing on an oblong": (
        lambda f: f.resample((16, 12)).replace(context=None, context_names=()),
        "on squares",
    ),
}


@pytest.mark.parametrize("case", FLOWS)
def test_data_that_are_no_flow(case, sciml, flow, tmp_path):
    change, words = FLOWS[case]
    path = save_dataset(tmp_path / "flow.npz", change(flow))
    library.save("model", Persistence())
    before = _files()
    outcome = sciml("refine", "model", path, *LENGTHS, "--out", "o.npz")
    assert outcome.status == 2
    assert words in outcome.error
    assert _files() == before


def test_the_output_layer_needs_an_sfno(sciml, flow_file):
    library.save("model", Persistence())
    words = ("--out", "o.npz", *LENGTHS, "--method", "output-layer")
    assert "a Persistence: take newton" in sciml("refine", "model", flow_file, *words).error


def test_forecasts_of_other_data_are_refused(sciml, flow, flow_file, model, tmp_path):
    assert sciml("predict", model, flow_file, *LENGTHS, "--out", "p.npz").status == 0
    cases = {
        "trajectories": flow.select([0]),
        "points": flow.resample(18),
        "first time": flow.slice_times(1),
    }
    for name, data in cases.items():
        path = save_dataset(tmp_path / f"{name.replace(' ', '-')}.npz", data)
        outcome = sciml("refine", "p.npz", path, "--out", "o.npz")
        assert outcome.status == 2
        assert f"does not continue {path}: {name}" in outcome.error
    outcome = sciml("refine", "p.npz", flow_file, "--out", "o.npz", "--n-steps", "2")
    assert "is for a model" in outcome.error


def test_it_keeps_a_file_that_is_there(sciml, flow_file, model):
    Path("o.npz").write_text("mine")
    assert "--overwrite" in sciml("refine", model, flow_file, *LENGTHS, "--out", "o.npz").error
    assert Path("o.npz").read_text() == "mine"


def test_a_file_that_holds_no_forecasts_is_refused(sciml, flow_file):
    outcome = sciml("refine", flow_file, flow_file, "--out", "o.npz")
    assert outcome.status == 2
    assert "not a file of forecasts" in outcome.error
    Path("p.npz").write_text("hello")
    outcome = sciml("refine", "p.npz", flow_file, "--out", "o.npz")
    assert outcome.status == 2
    assert "p.npz" in outcome.error


def test_interrupt_leaves_nothing(sciml, flow_file, model, monkeypatch):
    calls = []

    def refine_one(task, sample):
        calls.append(sample)
        if sample == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return _refine_one(task, sample)

    _refine_one = _refine_job.refine_one
    monkeypatch.setattr(_refine_job, "refine_one", refine_one)
    outcome = sciml("refine", model, flow_file, *LENGTHS, "--out", "o.npz")
    assert outcome.status == 130
    assert outcome.err.endswith("sciml: interrupted. Nothing was written\n")
    assert calls == [0, 1]
    assert _files() == set()
