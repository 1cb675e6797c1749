"""Names that load on first use: one list, in the stub, and no trace of when they are loaded."""

import pytest

from sciml import data, neural_operators, problems
from sciml.core._lazy import names_on_first_use

PACKAGES = [data, neural_operators, problems]


def _package(tmp_path, stub: str):
    (tmp_path / "__init__.pyi").write_text(stub)
    return names_on_first_use("sciml.core", str(tmp_path / "__init__.py"))


def test_the_stub_is_the_list(tmp_path):
    stub = (
        "from ._checks import check_count as check_count\nfrom ._table import format_table as t\n"
    )
    _, names, exported = _package(tmp_path, stub)
    assert names() == exported == ["check_count", "t"]


def test_what_comes_from_elsewhere_is_not_exported(tmp_path):
    _, names, _ = _package(tmp_path, "import os\nfrom typing import Any\n")
    assert names() == []


def test_an_unknown_name_is_an_attribute_error(tmp_path):
    load, _, _ = _package(tmp_path, "")
    with pytest.raises(AttributeError, match=r"module 'sciml\.core' has no attribute 'missing'"):
        load("missing")


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_every_name_loads_once(package):
    for name in package.__all__:
        value = getattr(package, name)
        assert vars(package)[name] is value


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_a_star_import_and_dir_give_the_same_names(package):
    namespace = {}
    exec(f"from {package.__name__} import *", namespace)
    assert sorted(namespace.keys() - {"__builtins__"}) == dir(package)
