"""Citations are found for classes, functions, objects and the parts of objects."""

import re

import equinox as eqx
import pytest

import sciml
from sciml.core import _bibliography, cites

_A = "@article{a, title = {A}}"
_B = """@book{b,
  title = {B},
}"""


@cites(_A)
class PartA(eqx.Module):
    size: int = 3


@cites(_B, _A)
class PartB(eqx.Module):
    inner: PartA


@cites(_A)
def function_a():
    pass


def test_class_object_function_and_parts():
    assert sciml.citation(PartA) == _A
    assert sciml.citation(function_a) == _A
    assert sciml.citation(PartB(PartA())) == f"{_B}\n\n{_A}"
    assert sciml.citation([PartA(), PartA()]) == _A


def test_refusals():
    with pytest.raises(ValueError, match=r"no citation is registered for int.*PartA"):
        sciml.citation(3)
    with pytest.raises(ValueError, match="must be a BibTeX entry"):
        cites("Euler 1768")


def test_methods_of_sciml_name_their_papers():
    spectral_refiner, fourier = sciml.citation(sciml.neural_operators.SFNO).split("\n\n")
    assert "arXiv" in spectral_refiner
    assert "2405.17211" in spectral_refiner
    assert "2010.08895" in fourier
    assert sciml.citation(sciml.neural_operators.AutoregressiveFNO) == fourier
    steppers = sciml.citation([sciml.problems.ETDRK4(), sciml.problems.RK4CrankNicolson()])
    keys = re.findall(r"^@\w+\{(\w+),$", steppers, re.M)
    assert keys[:2] == ["cox2002exponential", "kassam2005fourth"]
    assert keys[2:] == ["carpenter1994fourth", "canuto2007spectral"]
    assert "mcwilliams1984" in sciml.citation(sciml.problems.mcwilliams_vorticity)


def test_the_entries_are_bibtex():
    entries = {name: text for name, text in vars(_bibliography).items() if name.isupper()}
    keys = []
    for name, text in entries.items():
        found = re.fullmatch(r"@\w+\{(\w+),\n(  .*\n)+\}", text.strip())
        assert found, f"{name} is not laid out as the others"
        assert text.count("{") == text.count("}"), name
        for field in ("author", "title", "year"):
            assert f"  {field} = {{" in text, f"{name} lacks {field}"
        # A name AUTHOR_YEAR says what the entry holds.
        author, year = name.split("_")
        assert author.lower() in text.lower()
        assert f"year = {{{year}}}" in text
        keys.append(found[1])
    assert len(set(keys)) == len(keys)
