"""Learned solvers for PDEs and linear systems that plug into JAX and SciPy.

Subpackages load on first use (``sciml.data``, ``sciml.problems``, ...), so that ``import sciml``
costs next to nothing, flips no global setting and needs no extra.
"""

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import constraints as constraints
    from . import core as core
    from . import data as data
    from . import graph_solvers as graph_solvers
    from . import linear_solvers as linear_solvers
    from . import natural_gradient as natural_gradient
    from . import neural_de as neural_de
    from . import neural_operators as neural_operators
    from . import nn as nn
    from . import numerics as numerics
    from . import plot as plot
    from . import problems as problems
    from . import train as train
    from .core import citation as citation
    from .core import load as load
    from .core import save as save

try:
    __version__ = version("sciml")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

_SUBPACKAGES = (
    "constraints",
    "core",
    "data",
    "graph_solvers",
    "linear_solvers",
    "natural_gradient",
    "neural_de",
    "neural_operators",
    "nn",
    "numerics",
    "plot",
    "problems",
    "train",
)
_FROM_CORE = ("citation", "load", "save")


def __getattr__(name: str) -> Any:
    if name in _SUBPACKAGES:
        return importlib.import_module(f"sciml.{name}")
    if name in _FROM_CORE:
        return getattr(importlib.import_module("sciml.core"), name)
    raise AttributeError(f"module 'sciml' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_SUBPACKAGES, *_FROM_CORE])
