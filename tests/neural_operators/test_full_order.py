"""Evaluation at full order: exact motions, masks, classical rules, training."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml import load, save
from sciml.data import Trajectory
from sciml.neural_operators import (
    CandidateBatches,
    GappyPOD,
    KernelReducedOrderModel,
    MovingLeastSquares,
    NearestSample,
    NoMotion,
    ShepardInterpolant,
    ThinPlateSpline,
    full_order_loss,
    train_full_order,
)

RNG = np.random.default_rng(9173)
N_SAMPLES, N_QUERIES, N_FRAMES = 24, 40, 6
BOX = np.array([[0.0, 1.0], [0.0, 1.0]])


def cloud(dim=2, seed=None):
    rng = RNG if seed is None else np.random.default_rng(seed)
    return rng.uniform(0.2, 0.8, size=(N_SAMPLES + N_QUERIES, dim))


def rotation(angle, dim):
    turn = np.eye(dim)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return turn


def swirl(start, n_frames=N_FRAMES):
    """A smooth motion that is not affine."""
    frames = [start]
    for _ in range(n_frames - 1):
        x, y = np.pi * frames[-1][:, :2].T
        v = np.stack([np.sin(x) * np.cos(y), -np.cos(x) * np.sin(y)], 1)
        frames.append(frames[-1] + 0.06 * v)
    return np.stack(frames).astype(np.float32)


@functools.cache
def scrambled(dim=2):
    """A model whose network says anything: what holds for it holds for any training."""
    model = KernelReducedOrderModel(dim, hidden_channels=8, key=jax.random.key(3))
    arrays, rest = eqx.partition(model.network, eqx.is_array)
    noise = jax.tree.map(lambda a: 0.7 * jax.random.normal(jax.random.key(a.size), a.shape), arrays)
    network = eqx.combine(jax.tree.map(jnp.add, arrays, noise), rest)
    return eqx.tree_at(lambda m: m.network, model, network)


def ask(frames, model=None, **options):
    model = scrambled() if model is None else model
    return model(frames[0, N_SAMPLES:], frames[:, :N_SAMPLES], **options)


@pytest.mark.parametrize("dim", [2, 3])
def test_rigid_motions_are_exact_whatever_was_learned(dim):
    start = cloud(dim)
    frames = [start @ rotation(0.4 * k, dim).T + 0.1 * k for k in range(N_FRAMES)]
    frames = np.stack(frames).astype(np.float32)
    found = ask(frames, scrambled(dim))
    np.testing.assert_allclose(found, frames[:, N_SAMPLES:], atol=3e-6)
    np.testing.assert_array_equal(found[0], frames[0, N_SAMPLES:])


def test_the_answer_turns_and_shifts_with_the_frame():
    frames = swirl(cloud())
    turn, shift = rotation(1.1, 2), np.array([3.0, -2.0])
    found = ask(frames)
    moved = ask((frames @ turn.T + shift).astype(np.float32))
    np.testing.assert_allclose(moved, np.asarray(found) @ turn.T + shift, atol=3e-5)
    assert np.abs(found[-1] - found[0]).max() > 0.1


def test_order_of_samples_padding_and_chunks_do_not_matter():
    frames = swirl(cloud())
    found = ask(frames)
    samples, queries = frames[:, :N_SAMPLES], frames[0, N_SAMPLES:]
    order = RNG.permutation(N_SAMPLES)
    np.testing.assert_allclose(scrambled()(queries, samples[:, order]), found, atol=2e-5)
    mask = np.arange(N_SAMPLES) < N_SAMPLES - 3
    fewer = scrambled()(queries, samples[:, mask])
    for poison in (np.nan, 1e30):
        padded = np.where(mask[:, None], samples, np.float32(poison))
        np.testing.assert_allclose(scrambled()(queries, padded, mask=mask), fewer, atol=2e-5)
    many = np.tile(queries, (20, 1))  # more than a chunk
    np.testing.assert_allclose(scrambled()(many, samples), np.tile(found, (1, 20, 1)), atol=1e-5)
    np.testing.assert_array_equal(ask(frames), found)  # no chance in it


def test_a_sample_that_is_asked_for_is_where_it_is():
    frames = swirl(cloud())
    plain = KernelReducedOrderModel(2, hidden_channels=8, key=jax.random.key(5))
    which = np.arange(N_QUERIES) % N_SAMPLES
    found = plain(frames[0, which], frames[:, :N_SAMPLES])
    np.testing.assert_allclose(found, frames[:, which], atol=5e-3)


def test_derivatives_are_those_of_finite_differences(x64):
    """By queries, some of which are samples, and by samples."""
    # Without any optimisation (conftest.py) XLA compiles this derivative wrongly: NaN, where level
    # 1 and each operation by itself give the same finite numbers.
    optimised = {"xla_backend_optimization_level": 1}
    frames = swirl(cloud(seed=3), 3).astype(np.float64)
    samples, queries = jnp.asarray(frames[:, :N_SAMPLES]), jnp.asarray(frames[0, N_SAMPLES - 2 :])
    model = KernelReducedOrderModel(2, key=jax.random.key(3))

    def total(queries, samples):
        return jnp.sum(jnp.sin(3 * model(queries, samples)[1:]))

    value = jax.jit(total)
    slopes = jax.jit(jax.grad(total, (0, 1)), compiler_options=optimised)(queries, samples)
    rng = np.random.default_rng(4)
    directions = [jnp.asarray(rng.normal(size=a.shape)) for a in (queries, samples)]
    # Those that sit on a sample are at a kink of its distance: they stay.
    directions[0] = directions[0].at[:2].set(0.0)
    directions[1] = directions[1].at[0, -2:].set(0.0)
    h = 1e-6
    for k in (0, 1):
        moved = [[queries, samples] for _ in range(2)]
        moved[0][k] = moved[0][k] + h * directions[k]
        moved[1][k] = moved[1][k] - h * directions[k]
        wanted = (value(*moved[0]) - value(*moved[1])) / (2 * h)
        found = jnp.vdot(slopes[k], directions[k])
        np.testing.assert_allclose(found, wanted, rtol=2e-5)
        assert bool(jnp.isfinite(slopes[k]).all())


def few(samples):
    """Ask from the first of a list of samples; all else is padding."""
    padded = np.zeros((N_FRAMES, N_SAMPLES, 2), np.float32)
    padded[:, : samples.shape[1]] = samples
    queries = swirl(cloud(seed=5))[0, N_SAMPLES:]
    mask = np.arange(N_SAMPLES) < samples.shape[1]
    return queries, np.asarray(scrambled()(queries, padded, mask=mask))


def test_walls_hold_and_few_samples_suffice():
    frames = swirl(cloud())
    far = frames.copy()
    far[:, :, 0] += np.linspace(0, 0.5, N_FRAMES, dtype=np.float32)[:, None]
    found = np.asarray(ask(far, bounds=BOX))
    assert found.min() >= 0
    assert found.max() <= 1
    shift = 0.1 * np.arange(N_FRAMES, dtype=np.float32)[:, None, None]
    for n in (1, 2):  # no gradient, no spline: a rigid motion of what there is
        queries, found = few(0.5 + np.arange(n, dtype=np.float32)[None, :, None] + shift)
        np.testing.assert_allclose(found, queries + shift, atol=1e-5)
    line = np.linspace(0, 1, 5, dtype=np.float32)[None, :, None] * np.ones((1, 1, 2))
    assert np.isfinite(few(line * (1 + shift))[1]).all()
    # Two samples in one place with different velocities.
    meeting = frames[:, :N_SAMPLES].copy()
    meeting[2, 0] = meeting[2, 1]
    assert np.isfinite(scrambled()(frames[0, N_SAMPLES:], meeting)).all()


def test_bad_input_is_named():
    frames = swirl(cloud())
    queries, samples = frames[0, N_SAMPLES:], frames[:, :N_SAMPLES]
    model = scrambled()
    for arguments, words in [
        ((queries[:, :1], samples), "axis 1 of `queries`"),
        ((queries, samples[0]), "`samples` must have 3 axes"),
        ((queries, samples[:1]), "number of frames"),
        ((queries[:0], samples), "number of queries"),
        ((queries * np.nan, samples), "non-finite"),
    ]:
        with pytest.raises((ValueError, TypeError), match=words):
            model.__class__.__call__(model, *arguments)
    with pytest.raises(ValueError, match="no sample"):
        model(queries, samples, mask=np.zeros(N_SAMPLES, bool))
    with pytest.raises(ValueError, match="2 or 3"):
        KernelReducedOrderModel(4, key=jax.random.key(1))


@pytest.mark.parametrize(
    "rule", [MovingLeastSquares(6), MovingLeastSquares(12), ThinPlateSpline()], ids=str
)
def test_affine_motions_are_exact_for_rules_of_first_order(rule):
    start = cloud()
    gradient = np.array([[1.3, -0.4], [0.2, 0.8]])
    frames = np.stack([start, start @ gradient.T + 0.3])
    found = rule(start[N_SAMPLES:], frames[:, :N_SAMPLES])
    np.testing.assert_allclose(found[1], frames[1, N_SAMPLES:], atol=1e-9)


def test_classical_rules_do_what_they_say():
    frames = swirl(cloud()).astype(float)
    queries, samples = frames[0, N_SAMPLES:], frames[:, :N_SAMPLES]
    distance = np.linalg.norm(queries[:, None] - samples[0], axis=-1)
    nearest = distance.argmin(1)
    np.testing.assert_allclose(
        NearestSample()(queries, samples)[-1], queries + (samples[-1] - samples[0])[nearest]
    )
    np.testing.assert_array_equal(NoMotion()(queries, samples), np.tile(queries, (N_FRAMES, 1, 1)))
    weights = ShepardInterpolant(N_SAMPLES, 3).weights(queries, samples[0]).toarray()
    expected = distance**-3.0
    np.testing.assert_allclose(weights, expected / expected.sum(1, keepdims=True), rtol=1e-9)
    for rule in (ShepardInterpolant(4), MovingLeastSquares(5), ThinPlateSpline(), NearestSample()):
        # Interpolation, masks, any precision.
        if not isinstance(rule, MovingLeastSquares):
            np.testing.assert_allclose(rule(samples[0], samples), samples, atol=1e-6)
        padded = np.concatenate([samples, np.full((N_FRAMES, 2, 2), np.nan)], 1)
        mask = np.arange(N_SAMPLES + 2) < N_SAMPLES
        np.testing.assert_array_equal(rule(queries, padded, mask=mask), rule(queries, samples))
    # Fewer samples than neighbours, and all on a line.
    line = np.linspace(0, 1, 4)[None, :, None] * np.ones((2, 4, 2))
    assert np.isfinite(MovingLeastSquares(8)(queries, line)).all()
    with pytest.raises(ValueError, match="line or plane"):
        ThinPlateSpline()(queries, line)


def test_gappy_pod_recovers_motions_in_its_span():
    shapes = RNG.normal(size=(3, 30, 2))
    amplitudes = RNG.normal(size=(20, 3))
    start = RNG.uniform(size=(30, 2))
    moved = start + 0.01 * np.einsum("tk,kpd->tpd", amplitudes, shapes)
    run = Trajectory.from_array(moved, dt=0.1, bounds=[[-1, 2], [-1, 2]])
    pod = GappyPOD.from_trajectories([run], 8, ridge=1e-12)
    assert len(pod.modes) == 3
    samples = np.arange(0, 30, 4)
    found = pod(samples, run.displacement[:, samples])
    np.testing.assert_allclose(found, run.displacement, atol=1e-5)
    with pytest.raises(ValueError, match="same particles"):
        GappyPOD.from_trajectories([run, run.pad(31)])


def runs(count):
    return [Trajectory.from_array(swirl(cloud(seed=k)), dt=0.1, bounds=BOX) for k in range(count)]


@pytest.fixture(scope="module")
def trained():
    train, validation = runs(3)[:2], runs(3)[2:]
    model = KernelReducedOrderModel(2, hidden_channels=8, key=jax.random.key(3))
    batches = tuple(
        CandidateBatches(model, part, N_SAMPLES, every=2, batch_size=32, seed=1)
        for part in (train, validation)
    )
    solution = train_full_order(
        model, train, validation, N_SAMPLES, n_steps=10, batches=batches,
        key=jax.random.key(4), progress=False,
    )  # fmt: skip
    return model, batches, solution


def test_batches_hold_errors_of_queries_at_chosen_frames(trained):
    model, (learn, check), _ = trained
    tracks, features, weight = learn.whole
    assert tracks.shape == (2 * 2 * N_QUERIES, 5, 2)
    assert len(features) == len(weight) == len(learn)
    for a, b in zip(learn[7], learn[7], strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.abs(learn[7].tracks - learn[8].tracks).max() > 0
    # The error of a mixture that trusts one candidate is that of the candidate.
    sure = jax.tree.map(lambda a: a, model)
    object.__setattr__(sure, "favour", 60 * jnp.eye(5)[3])
    assert check.error(sure) == pytest.approx(check.errors()[3], rel=1e-3)


def test_training_keeps_what_is_best_and_can_be_saved(trained, tmp_path):
    _, (learn, check), solution = trained
    best = solution.value
    assert solution.stats["error"] <= solution.stats["start_error"]
    assert solution.stats["error"] <= check.errors()[learn.errors().argmin()] * (1 + 1e-4)
    assert check.error(best) == pytest.approx(solution.stats["error"], rel=1e-4)
    frames = runs(1)[0].position
    save(tmp_path / "model", best)
    back = load(tmp_path / "model")
    np.testing.assert_array_equal(ask(frames, back), ask(frames, best))
    arrays, static = eqx.partition(best, eqx.is_inexact_array)
    batch = jax.tree.map(jnp.asarray, learn[0])
    gradient = jax.grad(
        lambda a: full_order_loss(eqx.combine(a, static), batch, jax.random.key(0))
    )(arrays)
    for leaf in (*jax.tree.leaves(gradient.network), gradient.favour):
        assert float(jnp.max(jnp.abs(leaf))) > 0
    assert not gradient.feature_mean.any()


def test_what_hardly_moves_does_not_outweigh_the_rest():
    model = KernelReducedOrderModel(2, key=jax.random.key(3))
    still = np.broadcast_to(cloud(seed=5), (N_FRAMES, N_SAMPLES + N_QUERIES, 2)).astype(np.float32)
    both = [Trajectory.from_array(path, dt=0.1, bounds=BOX) for path in (runs_path(), still)]
    alone = CandidateBatches(model, both[:1], N_SAMPLES, every=2).errors()
    together = CandidateBatches(model, both, N_SAMPLES, every=2).errors()
    np.testing.assert_allclose(together, alone / np.sqrt(2), rtol=0.1)
    with pytest.raises(ValueError, match=r"6 frames; with `every` = 6 at least 7"):
        CandidateBatches(model, both, N_SAMPLES, every=6)


def runs_path():
    return swirl(cloud(seed=6))


def test_a_trajectory_cannot_teach_and_judge(trained):
    model, batches, _ = trained
    train = runs(1)
    with pytest.raises(ValueError, match="in `train` and in `validation`"):
        train_full_order(model, train, train, N_SAMPLES, batches=batches, key=jax.random.key(1))
    with pytest.raises(ValueError, match="are samples"):
        CandidateBatches(model, train, N_SAMPLES + N_QUERIES)
