"""Which papers to cite for a method: a registry that each package fills in beside its classes."""

from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax

_REGISTRY: dict[Any, tuple[str, ...]] = {}

_T = TypeVar("_T")


def cites(*entries: str) -> Callable[[_T], _T]:
    """Return a decorator that registers BibTeX entries for a class or function.

    Parameters
    ----------
    *entries
        BibTeX entries, the paper of the method first.
    """
    cleaned = tuple("\n".join(line.rstrip() for line in e.strip().splitlines()) for e in entries)
    for entry in cleaned:
        if not (entry.startswith("@") and entry.endswith("}")):
            raise ValueError(f"a citation must be a BibTeX entry '@...{{...}}', got {entry!r}.")

    def register(method: _T) -> _T:
        _REGISTRY[method] = cleaned
        return method

    return register


def citation(method: Any) -> str:
    """Return the BibTeX entries to cite for a method and for the methods it is made of.

    Parameters
    ----------
    method
        A class or function of sciml, or an object: a model, a solver, a record that holds some.

    Returns
    -------
    str
        The entries, each once, separated by an empty line.

    Raises
    ------
    ValueError
        If no entry is registered for it.

    Examples
    --------
    >>> from sciml.core import cites, citation
    >>> @cites("@article{euler1768, author = {Euler, Leonhard}, year = {1768}}")
    ... class Euler: ...
    >>> print(citation(Euler()))
    @article{euler1768, author = {Euler, Leonhard}, year = {1768}}
    """
    found: dict[str, None] = {}
    for candidate in _candidates(method):
        found.update(dict.fromkeys(_REGISTRY.get(candidate, ())))
    if not found:
        name = getattr(method, "__name__", type(method).__name__)
        known = ", ".join(sorted(m.__name__ for m in _REGISTRY)) or "none (import its package)"
        raise ValueError(f"no citation is registered for {name}. Registered are: {known}.")
    return "\n\n".join(found)


def _candidates(method: Any) -> list[Any]:
    if isinstance(method, type):
        return list(method.__mro__)
    if callable(method) and hasattr(method, "__qualname__"):
        return [method]
    candidates: list[Any] = list(type(method).__mro__)

    def visit(node: Any) -> bool:
        if isinstance(node, eqx.Module):
            candidates.extend(type(node).__mro__)
        return False

    jax.tree.leaves(method, is_leaf=visit)
    return candidates
