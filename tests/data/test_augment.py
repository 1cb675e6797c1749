"""Vorticity symmetries: group laws on the grid, and trajectories that stay solutions."""

import numpy as np
import pytest

from sciml.data import FieldDataset, VorticitySymmetries

EXACT = VorticitySymmetries.for_fno_forcing()


def grid(n):
    x = np.arange(n) / n
    return x[:, None], x[None, :]


def forcing(n):
    x, y = grid(n)
    return 0.1 * (np.sin(2 * np.pi * (x + y)) + np.cos(2 * np.pi * (x + y)))


def test_the_maps_are_what_they_say():
    x, y = grid(8)

    def field(x, y):
        return np.sin(2 * np.pi * x) + 0.3 * np.cos(2 * np.pi * (2 * x + y))

    rotated = EXACT.apply(field(x, y), rotate=True, transpose=False)
    np.testing.assert_allclose(rotated, field(0.25 - x, -y), atol=1e-14)
    reflected = EXACT.apply(field(x, y), rotate=False, transpose=True)
    np.testing.assert_allclose(reflected, -field(y + 0.5, x), atol=1e-14)
    both = EXACT.apply(field(x, y), rotate=True, transpose=True)
    np.testing.assert_allclose(both, -field(0.25 - (y + 0.5), -x), atol=1e-14)


@pytest.mark.parametrize(("rotate", "transpose"), [(True, False), (False, True), (True, True)])
def test_fno_forcing_is_mapped_on_itself(rotate, transpose):
    image = EXACT.apply(forcing(16), rotate=rotate, transpose=transpose)
    np.testing.assert_allclose(image, forcing(16), atol=1e-15)


def test_without_shifts_each_map_is_its_own_inverse():
    field = np.random.default_rng(61).normal(size=(3, 2, 5, 5))
    plain = VorticitySymmetries()
    for choice in ({"rotate": True, "transpose": False}, {"rotate": False, "transpose": True}):
        once = plain.apply(field, **choice)
        assert not np.array_equal(once, field)
        np.testing.assert_array_equal(plain.apply(once, **choice), field)


def test_samples_draw_their_own_symmetry_and_context_follows():
    rng = np.random.default_rng(8)
    values = rng.normal(size=(16, 6, 1, 8, 8))
    context = values[:, 0]
    data = FieldDataset.from_array(values, dt=1.0, domain_extent=1.0, context=context)
    window = data.evaluation_windows(2, 3)
    image = EXACT(window, 31)
    choices = set()
    for i in range(16):
        for rotate in (False, True):
            for transpose in (False, True):
                if np.array_equal(
                    image.inputs[i],
                    EXACT.apply(window.inputs[i], rotate=rotate, transpose=transpose),
                ):
                    choices.add((rotate, transpose))
                    expected = EXACT.apply(window.targets[i], rotate=rotate, transpose=transpose)
                    np.testing.assert_array_equal(image.targets[i], expected)
        np.testing.assert_array_equal(image.context[i], image.inputs[i, 0])
    assert len(choices) == 4
    np.testing.assert_array_equal(EXACT(window, 31).inputs, image.inputs)


def test_grids_that_do_not_fit_are_errors():
    with pytest.raises(ValueError, match="equally many points"):
        EXACT.apply(np.zeros((4, 8)), rotate=True, transpose=False)
    with pytest.raises(ValueError, match="a number of points that 4 divides"):
        EXACT.apply(np.zeros((6, 6)), rotate=True, transpose=False)
    with pytest.raises(ValueError, match="two finite fractions"):
        VorticitySymmetries(rotation_shift=(float("nan"), 0.0))
