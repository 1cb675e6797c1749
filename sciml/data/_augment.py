"""Exact symmetries of two-dimensional Navier-Stokes in vorticity form, as augmentation."""

from fractions import Fraction

import equinox as eqx
import numpy as np
from jaxtyping import Bool

from ..core import check_floating, check_not_traced
from ._windows import Window


class VorticitySymmetries(eqx.Module):
    r"""Rotate by 180 degrees and reflect at the diagonal, each with probability one half.

    If :math:`\omega(x, y, t)` solves the vorticity equation on a periodic square with the
    forcing :math:`f(x, y)`, then so do, with the forcing changed in the same way,

    - the rotation :math:`\omega(a_x L - x, a_y L - y, t)`,
    - the reflection :math:`-\omega(y + b_x L, x + b_y L, t)`: vorticity is a pseudoscalar, so a
      reflection changes its sign.

    Fields and context are transformed together. The shifts ``a`` and ``b`` are free (the
    equation does not know where its origin is); choose them so that a fixed forcing is mapped
    on itself, and the network meets one forcing only. Every channel of the fields and of the
    context must be a vorticity or the forcing of one.

    On the periodic grid :math:`x_i = i L / n`, which leaves out the end point, :math:`-x_i` is
    the point of index :math:`-i \bmod n`; reversing the array would be wrong by one cell.

    Parameters
    ----------
    rotation_shift
        ``(a_x, a_y)`` in fractions of the period.
    transpose_shift
        ``(b_x, b_y)`` in fractions of the period.

    Examples
    --------
    >>> import numpy as np
    >>> from sciml.data import FieldDataset
    >>> u = np.random.default_rng(7).normal(size=(4, 9, 1, 8, 8))
    >>> data = FieldDataset.from_array(u, dt=0.2, domain_extent=1.0)
    >>> symmetries = VorticitySymmetries.for_fno_forcing()
    >>> batches = data.windows(3, 5, batch_size=2, seed=11, transform=symmetries)
    >>> batches[0].inputs.shape
    (2, 3, 1, 8, 8)
    """

    rotation_shift: tuple[float, float] = eqx.field(static=True)
    transpose_shift: tuple[float, float] = eqx.field(static=True)

    def __init__(
        self,
        *,
        rotation_shift: tuple[float, float] = (0.0, 0.0),
        transpose_shift: tuple[float, float] = (0.0, 0.0),
    ):
        for name, shift in (
            ("rotation_shift", rotation_shift),
            ("transpose_shift", transpose_shift),
        ):
            if len(shift) != 2 or not np.all(np.isfinite(shift)):
                raise ValueError(
                    f"`{name}` must be two finite fractions of the period, got {shift}."
                )
        self.rotation_shift = (float(rotation_shift[0]), float(rotation_shift[1]))
        self.transpose_shift = (float(transpose_shift[0]), float(transpose_shift[1]))

    @classmethod
    def for_fno_forcing(cls) -> "VorticitySymmetries":
        r"""Return the symmetries that keep the forcing of the FNO benchmark as it is.

        :math:`f = 0.1 (\sin 2\pi(x+y) + \cos 2\pi(x+y))` returns to itself after the rotation
        with a shift of a quarter period and after the reflection with a shift of half a period.
        """
        return cls(rotation_shift=(0.25, 0.0), transpose_shift=(0.5, 0.0))

    def __call__(self, window: Window, generator: np.random.Generator | int) -> Window:
        """Return the window with each of its samples transformed at random.

        Parameters
        ----------
        window
            Fields on a grid of two space axes.
        generator
            What to draw from; an integer is taken as a seed.

        Raises
        ------
        ValueError
            If the grid is not square, or a shift is not a whole number of its cells.
        """
        return self.apply_drawn(window, self.draw(len(window.inputs), generator))

    def draw(
        self, n_samples: int, generator: np.random.Generator | int
    ) -> Bool[np.ndarray, "sample 2"]:
        """Return for each sample whether it is rotated, and whether it is reflected."""
        generator = np.random.default_rng(generator)
        return generator.integers(0, 2, size=(n_samples, 2)).astype(bool)

    def apply_drawn(self, window: Window, drawn: Bool[np.ndarray, "sample 2"]) -> Window:
        """Return the window with each of its samples transformed as `draw` has said.

        Raises
        ------
        ValueError
            As when it is called.
        """
        context = window.context
        return Window(
            self._apply_each(window.inputs, drawn),
            self._apply_each(window.targets, drawn),
            None if context is None else self._apply_each(context, drawn),
        )

    def _apply_each(self, batch: np.ndarray, choices: np.ndarray) -> np.ndarray:
        return np.stack(
            [
                self.apply(sample, rotate=bool(rotate), transpose=bool(transpose))
                for sample, (rotate, transpose) in zip(batch, choices, strict=True)
            ]
        )

    def apply(self, field: np.ndarray, *, rotate: bool, transpose: bool) -> np.ndarray:
        """Return the chosen image of ``(..., x, y)``: the rotation first, then the reflection."""
        check_floating("field", field)
        check_not_traced("field", field, "symmetries are applied")
        field = np.asarray(field)
        if field.ndim < 2 or field.shape[-1] != field.shape[-2]:
            raise ValueError(
                "`field` needs two space axes with equally many points (a reflection at "
                f"the diagonal swaps them), got an array of shape {field.shape}."
            )
        n = field.shape[-1]
        i = np.arange(n)
        if rotate:
            a_x, a_y = (_whole_cells("rotation_shift", s, n) for s in self.rotation_shift)
            field = field[..., (a_x - i[:, None]) % n, (a_y - i[None, :]) % n]
        if transpose:
            b_x, b_y = (_whole_cells("transpose_shift", s, n) for s in self.transpose_shift)
            field = -field[..., (i[None, :] + b_x) % n, (i[:, None] + b_y) % n]
        return field


def _whole_cells(name: str, shift: float, n: int) -> int:
    fraction = Fraction(shift).limit_denominator(10**6)
    cells = fraction * n
    if cells.denominator != 1:
        raise ValueError(
            f"`{name}` of {shift:g} periods is {float(cells):g} cells of a grid with {n} points, "
            f"not a whole number; take a number of points that {fraction.denominator} divides."
        )
    return int(cells)
