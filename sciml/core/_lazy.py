"""Packages whose names load on first use: nobody waits for what he does not need."""

import ast
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any


def names_on_first_use(
    package: str, file: str
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return the ``__getattr__``, ``__dir__`` and ``__all__`` of a package with a stub.

    The stub (``__init__.pyi`` beside ``__init__.py``) is the one list of what the package exports:
    type checkers and editors read it as it stands, and here it says which module a name is in
    (SPEC 1 of Scientific Python).

    Parameters
    ----------
    package
        The package's ``__name__``.
    file
        The package's ``__file__``.
    """
    stub = Path(file).with_suffix(".pyi")
    module_of = {
        alias.asname or alias.name: f"{package}.{statement.module}"
        for statement in ast.parse(stub.read_text(encoding="utf-8")).body
        if isinstance(statement, ast.ImportFrom) and statement.level == 1
        for alias in statement.names
    }

    def load(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(module_of[name]), name)
        # The next look finds it without coming here.
        setattr(importlib.import_module(package), name, value)
        return value

    names = sorted(module_of)
    return load, lambda: names, names
