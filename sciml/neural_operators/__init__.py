"""Layer 4: neural operators that forecast fields, roll-outs and the baselines they must beat."""

from ..core._lazy import names_on_first_use

__getattr__, __dir__, __all__ = names_on_first_use(__name__, __file__)
