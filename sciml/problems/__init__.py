"""Layer 2: equations with known answers, their steppers, initial fields and forcings."""

from ..core._lazy import names_on_first_use

__getattr__, __dir__, __all__ = names_on_first_use(__name__, __file__)
