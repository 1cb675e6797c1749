"""Layer 2: files in, named arrays out: datasets, readers, generators, windows, normalisers."""

from ..core._lazy import names_on_first_use

__getattr__, __dir__, __all__ = names_on_first_use(__name__, __file__)
