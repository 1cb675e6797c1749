"""Fields that are encoded once: numbers, floor, batches that resume, refusals."""

import jax.numpy as jnp
import numpy as np
import pytest

from sciml.data import encode_fields
from sciml.numerics import CosineBasis

BASIS = CosineBasis((3, 2))


@pytest.fixture(scope="module")
def pairs():
    rng = np.random.default_rng(67)
    inputs = rng.normal(size=(5, 2, 6, 4)).astype(np.float32)
    targets = rng.normal(size=(5, 1, 6, 4)).astype(np.float32)
    return inputs, targets


def test_numbers_are_those_of_the_basis(pairs):
    inputs, targets = pairs
    fields = encode_fields(BASIS, inputs, targets, batch_size=2)
    assert fields.inputs.shape == (5, 2, 3, 2)
    np.testing.assert_allclose(fields.inputs[4], BASIS.encode(jnp.asarray(inputs[4])), atol=1e-6)
    tails = [float(BASIS.tail_energy(jnp.asarray(u))) for u in targets]
    np.testing.assert_allclose(fields.tail, tails, rtol=1e-5)
    errors = [float(BASIS.truncation_error(jnp.asarray(u))) for u in targets]
    np.testing.assert_allclose(fields.floor, np.mean(errors), rtol=1e-5)


def test_batches_depend_on_seed_and_step_alone(pairs):
    fields = encode_fields(BASIS, *pairs)
    batches = fields.batches(batch_size=2, seed=71)
    assert batches.steps_per_epoch == 3
    seen = np.concatenate([batches[step].tail for step in range(5)])
    for epoch in (seen[:5], seen[5:]):
        np.testing.assert_array_equal(np.sort(epoch), np.sort(fields.tail))
    assert not np.array_equal(seen[:5], seen[5:])
    np.testing.assert_array_equal(
        fields.batches(batch_size=2, seed=71)[3].inputs, batches[3].inputs
    )
    in_order = fields.batches(batch_size=5, seed=0, shuffle=False)
    np.testing.assert_array_equal(in_order[7].targets, fields.targets)


def test_bad_input_is_refused(pairs):
    inputs, targets = pairs
    with pytest.raises(ValueError, match="equally many samples, got 4 and 5"):
        encode_fields(BASIS, inputs[:4], targets)
    broken = targets.copy()
    broken[3, 0, 2, 1] = np.nan
    with pytest.raises(ValueError, match=r"`targets` must be finite, got nan at sample 3"):
        encode_fields(BASIS, inputs, broken)
    with pytest.raises(TypeError, match="real floating-point"):
        encode_fields(BASIS, inputs.astype(int), targets)
    with pytest.raises(ValueError, match="larger than the number of samples"):
        encode_fields(BASIS, inputs, targets).batches(batch_size=6, seed=1)
    with pytest.raises(ValueError, match="cannot hold"):
        encode_fields(CosineBasis((8, 2)), inputs, targets)
