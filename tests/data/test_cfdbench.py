"""CFDBench: splits by case, masks where the obstacle is, frames that line up, files that lie."""

import json
import pickle
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.data import (
    DataFileError,
    FlowCase,
    FlowNormaliser,
    FlowProblem,
    frame_pairs,
    generate_cavity,
    generate_channel,
    generate_cylinder,
    load_cfdbench,
    read_flow_case,
    save_flow_case,
)
from sciml.neural_operators import FlowStep, flow_loss, rollout_flow
from sciml.numerics import normalised_mse

CAVITY = {"vel_top": 2.0, "density": 1.0, "viscosity": 0.01, "height": 0.5, "width": 0.5}
DAM = {
    "velocity": 0.5,
    "density": 100.0,
    "viscosity": 0.1,
    "barrier_height": 0.12,
    "barrier_width": 0.06,
    "height": 0.4,
    "width": 1.5,
}
CYLINDER = {
    "vel_in": 1.0,
    "density": 10.0,
    "viscosity": 1e-3,
    "x_min": -0.06,
    "x_max": 0.16,
    "y_min": -0.05,
    "y_max": 0.07,
    "radius": 0.01,
}


def made_up(problem, params, *, n=8, n_times=5, dt=0.1, seed=0) -> FlowCase:
    u, v = np.random.default_rng(seed).normal(size=(2, n_times, n, n)).astype(np.float32)
    return FlowCase(problem, u, v, params, dt)


@pytest.fixture
def root(tmp_path):
    for number in range(10):
        params = CAVITY | {"viscosity": 0.01 * (number + 1)}
        save_flow_case(tmp_path, "prop", number, made_up(FlowProblem.CAVITY, params, seed=number))
    # The baseline stands in another subset, too.
    save_flow_case(tmp_path, "bc", 0, made_up(FlowProblem.CAVITY, CAVITY))
    return tmp_path


def test_no_case_is_in_two_parts(root):
    splits = load_cfdbench(root, FlowProblem.CAVITY, ("prop", "bc"))
    assert sum(len(cases) for cases in splits.values()) == 11
    seen = [{c.params["viscosity"] for c in cases} for cases in splits.values()]
    assert all(seen)
    assert sum(map(len, seen)) == len(set.union(*seen)) == 10


def test_the_split_does_not_depend_on_the_order_of_folders(root, tmp_path_factory):
    names = {k: [c.name for c in v] for k, v in load_cfdbench(root, FlowProblem.CAVITY,
                                                              ("bc", "prop")).items()}  # fmt: skip
    copy = tmp_path_factory.mktemp("copy")
    for subset in ("bc", "prop"):
        for folder in sorted((root / "cavity" / subset).iterdir(), reverse=True):
            shutil.copytree(folder, copy / "cavity" / subset / folder.name)
    again = load_cfdbench(copy, FlowProblem.CAVITY, ("prop", "bc"))
    assert names == {k: [c.name for c in v] for k, v in again.items()}
    other = load_cfdbench(root, FlowProblem.CAVITY, ("prop", "bc"), seed=3)
    assert names != {k: [c.name for c in v] for k, v in other.items()}


def test_a_case_survives_its_file(tmp_path):
    case = made_up(FlowProblem.CYLINDER, CYLINDER, dt=0.003)
    folder = save_flow_case(tmp_path, "geo", 12, case)
    for mmap in (True, False):
        back = read_flow_case(folder, FlowProblem.CYLINDER, mmap=mmap)
        assert np.array_equal(back.u, case.u)
        assert dict(back.params) == CYLINDER
        assert back.dt == 0.003
    with pytest.raises(FileExistsError):
        save_flow_case(tmp_path, "geo", 12, case)


def test_published_files_have_the_step_of_their_problem(tmp_path):
    folder = save_flow_case(tmp_path, "geo", 0, made_up(FlowProblem.CYLINDER, CYLINDER))
    (folder / "case.json").write_text(json.dumps(CYLINDER))
    assert read_flow_case(folder, FlowProblem.CYLINDER).dt == 0.001
    assert read_flow_case(folder, FlowProblem.CYLINDER, dt=0.5).dt == 0.5


def test_the_cylinder_is_at_the_origin_of_its_coordinates():
    case = made_up(FlowProblem.CYLINDER, CYLINDER, n=64)
    inside = case.obstacle
    assert not case.mask[inside].any()
    y, x = case.positions()
    rows, columns = np.nonzero(inside)
    assert abs(y[rows].mean() - 0.05) < case.spacing[0]
    assert abs(x[columns].mean() - 0.06) < case.spacing[1]
    area = inside.sum() * case.spacing[0] * case.spacing[1]
    assert abs(area - np.pi * 0.01**2) < 0.1 * np.pi * 0.01**2
    assert np.all(case.frames()[:, :, inside] == 0)


def test_the_step_of_the_dam_is_masked():
    case = made_up(FlowProblem.DAM, DAM, n=64)
    inside = case.obstacle
    y, x = case.positions()
    rows, columns = np.nonzero(inside)
    assert y[rows].max() <= 0.12 < y[rows].max() + case.spacing[0]
    assert 0.5 <= x[columns].min() < 0.5 + case.spacing[1]
    assert 0.56 - case.spacing[1] < x[columns].max() <= 0.56
    assert not case.mask[inside].any()
    inlet = case.boundary[0, :, 0]
    assert np.all(inlet[1:-1][y[1:-1] <= 0.12] == 0.5)
    assert np.all(inlet[y > 0.12] == 0)


def test_reynolds_numbers():
    assert made_up(FlowProblem.CAVITY, CAVITY).reynolds == pytest.approx(100)
    assert made_up(FlowProblem.CYLINDER, CYLINDER).reynolds == pytest.approx(200)
    assert made_up(FlowProblem.DAM, DAM).reynolds == pytest.approx(60)


def test_features_tell_flows_of_water_into_air_apart():
    """At one Reynolds number the density of the air, and gravity, still make a difference."""
    heavy = DAM | {"density": 1000.0, "viscosity": 1.0}
    fast = DAM | {"velocity": 1.0, "viscosity": 0.2}
    found = [made_up(FlowProblem.DAM, p).features() for p in (DAM, heavy, fast)]
    assert found[0]["log_reynolds"] == pytest.approx(found[1]["log_reynolds"])
    assert found[0]["log_density"] != found[1]["log_density"]
    assert found[0]["log_froude"] == found[1]["log_froude"] != found[2]["log_froude"]


def test_a_step_in_seconds_is_rounded_to_frames_or_refused():
    case = made_up(FlowProblem.CAVITY, CAVITY)
    assert case.stride(0.3) == 3  # 0.3 / 0.1 is 2.9999999999999996
    with pytest.raises(ValueError, match="whole multiple"):
        case.stride(0.25)


@pytest.fixture(scope="module")
def cases():
    common = {"density": 1.0, "size": 0.1, "n": 14, "n_frames": 6, "dt": 0.1}
    return [generate_cavity(lid=0.1, viscosity=mu, **common) for mu in (1e-4, 3e-4)]


def test_pairs_line_up_and_batches_repeat(cases):
    normaliser = FlowNormaliser.fit(cases)
    pairs = frame_pairs(cases, normaliser, stride=2)
    assert len(pairs) == 2 * 5
    batch = pairs.batch([0, 6])
    assert np.array_equal(batch.targets[0], cases[0].frames()[2])
    assert np.array_equal(batch.frames[1], cases[1].frames()[1])
    batches = pairs.batches(4, seed=5)
    assert np.array_equal(batches[3].frames, pairs.batches(4, seed=5)[3].frames)
    assert not np.array_equal(batches[3].frames, batches[4].frames)


def test_stationary_flow_is_left_out_relative_to_the_speed(cases):
    normaliser = FlowNormaliser.fit(cases)
    all_pairs = frame_pairs(cases, normaliser)
    fewer = frame_pairs(cases, normaliser, stop_tol=0.03)
    assert 0 < len(fewer) < len(all_pairs)
    with pytest.raises(ValueError, match="no pair is left"):
        frame_pairs(cases, normaliser, stop_tol=10.0)


def test_the_normaliser_comes_from_one_problem(cases):
    normaliser = FlowNormaliser.fit(cases)
    features = np.array([normaliser.inputs(case).features for case in cases])
    assert np.allclose(features.mean(axis=0), 0, atol=1e-6)
    assert np.allclose(features[:, 0].std(), 1, atol=1e-6)
    cylinder = made_up(FlowProblem.CYLINDER, CYLINDER)
    with pytest.raises(ValueError, match="another problem"):
        normaliser.inputs(cylinder)
    with pytest.raises(ValueError, match="one problem"):
        FlowNormaliser.fit([*cases, cylinder])
    raw = FlowNormaliser.fit(cases, dimensionless=False)
    assert raw.names == FlowProblem.CAVITY.parameters


def test_the_perfect_model_has_no_error_in_a_rollout(cases):
    case = cases[0]
    truth = jnp.asarray(case.frames())
    inputs = FlowNormaliser.fit(cases).inputs(case)

    def perfect(frame, inputs):
        index = jnp.argmin(jnp.sum((truth - frame[None]) ** 2, axis=(1, 2, 3)))
        return truth[index + 1]

    rolled = rollout_flow(perfect, truth[0], inputs, 5)
    assert float(normalised_mse(rolled, truth[1:6], mask=jnp.asarray(case.mask))) == 0
    still = rollout_flow(lambda frame, inputs: frame, truth[2], inputs, 3)
    assert float(normalised_mse(still, truth[3:6])) > 1e-4


def test_the_boundary_stands_after_fifty_steps(cases, getkey):
    case, inputs = cases[0], FlowNormaliser.fit(cases).inputs(cases[0])
    step = FlowStep(lambda v: 0.01 * v[:2] + 1.0)
    last = rollout_flow(step, case.frames()[1], inputs, 50)[-1]
    assert np.array_equal(np.asarray(last)[:, ~case.mask], case.boundary[:, ~case.mask])


def test_flow_loss_of_persistence_is_one(cases):
    pairs = frame_pairs(cases, FlowNormaliser.fit(cases))
    step = FlowStep(lambda v: 0 * v[:2])
    assert float(flow_loss(step, pairs.batch(), jax.random.key(0))) == pytest.approx(1, rel=1e-4)


def test_flow_loss_where_nothing_moves_is_relative_to_the_flow(cases):
    pairs = frame_pairs(cases, FlowNormaliser.fit(cases))
    batch = pairs.batch()
    still = batch._replace(targets=batch.frames)
    ahead = FlowStep(lambda v: 0 * v[:2] + 0.01)
    loss, slope = jax.value_and_grad(
        lambda c: flow_loss(FlowStep(lambda v: 0 * v[:2] + c), still, jax.random.key(0))
    )(0.01)
    assert 0 < float(loss) < 1
    assert np.isfinite(slope)
    assert float(loss) == pytest.approx(float(flow_loss(ahead, still, jax.random.key(0))))


def test_frames_at_different_intervals_are_refused():
    both = [made_up(FlowProblem.CAVITY, CAVITY, dt=dt) for dt in (0.1, 0.2)]
    with pytest.raises(ValueError, match=r"frames at one interval, got \[0.1, 0.2\]"):
        FlowNormaliser.fit(both)


def test_normalised_mse():
    truth = jnp.stack([jnp.full((2, 4, 4), 0.1), jnp.ones((2, 4, 4))])
    guess = truth + 0.1
    assert float(normalised_mse(guess, truth)) == pytest.approx(0.02 / 1.01)
    assert float(normalised_mse(guess, truth, pooled=False)) == pytest.approx((1 + 0.01) / 2)
    mask = jnp.ones((4, 4), bool).at[0, 0].set(False)
    dirty = guess.at[:, :, 0, 0].set(jnp.nan)
    assert float(normalised_mse(dirty, truth, mask=mask)) == pytest.approx(0.02 / 1.01)


def test_other_generators_give_cases_of_the_files_form():
    common = {"inlet": 1.0, "density": 1.0, "n": 14, "n_frames": 2}
    channel = generate_channel(viscosity=1e-3, height=0.1, width=1.0, **common)
    assert channel.u.shape == (3, 14, 14)
    assert np.all(channel.frames()[:, 0, 1:-1, 0] == 1)
    assert channel.reynolds == pytest.approx(100)
    cylinder = generate_cylinder(viscosity=2e-4, refine=2, **common)
    assert cylinder.u.shape == (3, 14, 14)
    assert cylinder.reynolds == pytest.approx(100)


def _missing_key(folder):
    params = json.loads((folder / "case.json").read_text())
    del params["density"]
    (folder / "case.json").write_text(json.dumps(params))


def _text_value(folder):
    (folder / "case.json").write_text(json.dumps(CAVITY | {"density": "heavy"}))


def _not_a_number(folder):
    (folder / "case.json").write_text('{"density": NaN}')


def _list(folder):
    (folder / "case.json").write_text("[1, 2]")


def _other_shape(folder):
    np.save(folder / "v.npy", np.zeros((5, 8, 9), np.float32))


def _nan_frame(folder):
    u = np.zeros((5, 8, 8), np.float32)
    u[3, 1, 2] = np.nan
    np.save(folder / "u.npy", u)


def _no_frames(folder):
    np.save(folder / "u.npy", np.zeros((0, 8, 8), np.float32))


def _integers(folder):
    np.save(folder / "u.npy", np.zeros((5, 8, 8), np.int64))


def _objects(folder):
    np.save(folder / "u.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)


def _pickle(folder):
    (folder / "u.npy").write_bytes(pickle.dumps(np.zeros((5, 8, 8))))


def _cut_off(folder):
    (folder / "u.npy").write_bytes((folder / "u.npy").read_bytes()[:200])


def _archive(folder):
    with (folder / "u.npy").open("wb") as file:
        np.savez(file, u=np.zeros((5, 8, 8)))


def _gone(folder):
    (folder / "v.npy").unlink()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_missing_key, "no parameter 'density'"),
        (_text_value, "finite number"),
        (_not_a_number, "finite number"),
        (_list, "an object"),
        (_other_shape, "one shape"),
        (_nan_frame, "time 3, y 1, x 2"),
        (_no_frames, "none of them empty"),
        (_integers, "float32 or float64"),
        (_objects, "cannot be read"),
        (_pickle, "cannot be read"),
        (_cut_off, "cannot be read"),
        (_archive, "archive"),
        (_gone, "missing"),
    ],
)
def test_spoiled_files_are_refused_by_name(tmp_path, spoil, words):
    folder = save_flow_case(tmp_path, "prop", 0, made_up(FlowProblem.CAVITY, CAVITY))
    spoil(folder)
    with pytest.raises(DataFileError, match=words) as caught:
        read_flow_case(folder, FlowProblem.CAVITY)
    assert str(folder) in str(caught.value)


def test_missing_folders_and_unknown_names(root):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        load_cfdbench(root, FlowProblem.TUBE)
    with pytest.raises(ValueError, match="must be some of"):
        load_cfdbench(root, FlowProblem.CAVITY, ("props",))
    with pytest.raises(TypeError):
        load_cfdbench(root, "cavity")
    (root / "cavity" / "geo").mkdir()
    with pytest.raises(DataFileError, match="empty"):
        load_cfdbench(root, FlowProblem.CAVITY, ("geo",))
    with pytest.raises(ValueError, match="needs three"):
        load_cfdbench(root, FlowProblem.CAVITY, ("bc",))


def test_bad_cases():
    with pytest.raises(ValueError, match=r"x_min = 0.3, which is not below x_max = 0.16"):
        made_up(FlowProblem.CYLINDER, CYLINDER | {"x_min": 0.3})
    with pytest.raises(ValueError, match="y_min"):
        made_up(FlowProblem.CYLINDER, CYLINDER | {"y_min": float("nan")})
    with pytest.raises(ValueError, match="must be positive"):
        made_up(FlowProblem.CAVITY, CAVITY | {"viscosity": 0.0})
    with pytest.raises(ValueError, match="must be positive"):
        made_up(FlowProblem.CAVITY, CAVITY, dt=0.0)
    with pytest.raises(ValueError, match="too few for pairs"):
        case = made_up(FlowProblem.CAVITY, CAVITY, n_times=1)
        frame_pairs([case], FlowNormaliser.fit([case]))
