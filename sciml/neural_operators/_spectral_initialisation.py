r"""How large the first weights of a network on truncated spectra are.

A layer that keeps :math:`m` of :math:`N` coefficients loses the energy of the others. If the kept
ones hold a share :math:`\eta` of it, weights of variance :math:`1 / (c \eta)` on :math:`c` channels
restore the variance of the input.
"""

import abc
import math
from collections.abc import Sequence

import equinox as eqx

from ..core import check_count, check_positive, cites
from ..core._bibliography import POLI_2022


class AbstractSpectralInitialisation(eqx.Module):
    """A rule for the gains of the layers; a gain of 1 is a variance of ``1 / in_channels``."""

    @abc.abstractmethod
    def gains(self, n_modes: Sequence[int], n_layers: int) -> tuple[float, ...]:
        """Return the factor of the weights of each layer."""


class KeepEnergy(AbstractSpectralInitialisation):
    """Gains from the energy that the kept modes really hold; the layers behind get gain 1.

    Parameters
    ----------
    kept_energy
        Share of the energy of the inputs that the basis keeps, at most 1. Fields have nearly all of
        it in few modes, hence the default.

    Examples
    --------
    >>> KeepEnergy(0.25).gains((8, 8), 3)
    (2.0, 1.0, 1.0)
    """

    kept_energy: float = eqx.field(static=True)

    def __init__(self, kept_energy: float = 1.0):
        check_positive("kept_energy", kept_energy)
        if kept_energy > 1:
            raise ValueError(f"`kept_energy` is a share and at most 1, got {kept_energy!r}.")
        self.kept_energy = float(kept_energy)

    def gains(self, n_modes: Sequence[int], n_layers: int) -> tuple[float, ...]:
        """Return the factor of the weights of each layer."""
        del n_modes
        return (self.kept_energy**-0.5, *(1.0,) * (n_layers - 1))


@cites(POLI_2022)
class VariancePreserving(AbstractSpectralInitialisation):
    r"""The published rule: :math:`\eta = m / N`, as for white noise, in every layer.

    Fields are not white: on smooth ones this inflates the variance by :math:`N / m` a layer.

    Parameters
    ----------
    n_points
        Points of each axis of the training grid.
    first_layer_only
        Whether the layers behind the first, whose input is truncated already, get gain 1.

    References
    ----------
    .. [1] M. Poli et al., "Transform once: efficient operator learning in frequency domain",
           NeurIPS 2022.

    Examples
    --------
    >>> VariancePreserving((16, 16)).gains((8, 8), 3)
    (2.0, 2.0, 2.0)
    """

    n_points: tuple[int, ...] = eqx.field(static=True)
    first_layer_only: bool = eqx.field(static=True)

    def __init__(self, n_points: Sequence[int], *, first_layer_only: bool = False):
        self.n_points = tuple(check_count(f"n_points[{i}]", n) for i, n in enumerate(n_points))
        self.first_layer_only = first_layer_only

    def gains(self, n_modes: Sequence[int], n_layers: int) -> tuple[float, ...]:
        """Return the factor of the weights of each layer.

        Raises
        ------
        ValueError
            If the number of axes differs or an axis has fewer points than modes.
        """
        fits = len(n_modes) == len(self.n_points) and all(
            m <= n for m, n in zip(n_modes, self.n_points, strict=True)
        )
        if not fits:
            raise ValueError(
                f"`n_points` {self.n_points} must hold n_modes={tuple(n_modes)}, axis by axis."
            )
        gain = math.sqrt(math.prod(self.n_points) / math.prod(n_modes))
        return (gain, *(1.0 if self.first_layer_only else gain,) * (n_layers - 1))
