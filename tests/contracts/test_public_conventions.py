"""What all public classes and functions keep, beside the batteries on structure and docstrings."""

import importlib
import inspect
import json
import re

import equinox as eqx
import jax

from sciml import natural_gradient, neural_de, numerics
from sciml.core._arguments import build_module, encode_module

from .test_public_classes import CONCRETE, PUBLIC, _build, each

# Its changes are those of the constructor, which refuses what it does not know.
PASSED_ON = {("FieldDataset", "replace")}
# Settings of a solve that nobody trains: they hold objects that JSON cannot say (a tableau, an
# optimiser, a solver of diffrax, a key), or what was computed from another object.
NOT_REBUILT = (
    natural_gradient.DiagonallyImplicit,
    natural_gradient.Explicit,
    natural_gradient.GradientMethod,
    natural_gradient.ImplicitExplicit,
    natural_gradient.OrnsteinUhlenbeckSolver,
    neural_de.RegularizedSolver,
    numerics.UnrolledStencil,
)
FUNCTIONS = {name: value for name, value in PUBLIC.items() if inspect.isfunction(value)}


@each(PUBLIC, "value")
def test_unknown_keywords_are_refused(value):
    members = {} if inspect.isfunction(value) else vars(value)
    functions = [value] if inspect.isfunction(value) else []
    functions += [m for n, m in members.items() if n[0] != "_" or n == "__call__"]
    for function in filter(inspect.isfunction, functions):
        if (value.__name__, function.__name__) not in PASSED_ON:
            kinds = [p.kind for p in inspect.signature(function).parameters.values()]
            assert inspect.Parameter.VAR_KEYWORD not in kinds, function.__qualname__


@each(FUNCTIONS, "function")
def test_errors_are_documented(function):
    if function.__module__.startswith("sciml.core."):  # the checks themselves, for authors
        return
    raises = re.search(r"\n +raise (Value|Type)Error", inspect.getsource(function))
    assert not raises or "\nRaises\n---" in (inspect.getdoc(function) or "")


@each(CONCRETE, "cls")
def test_arguments_rebuild_the_module(cls):
    """What `sciml.save` writes makes a module of the same structure, shapes and dtypes again."""
    if cls in NOT_REBUILT:
        return
    module, arrays = _build(cls), {}
    try:
        described = json.loads(json.dumps(encode_module(module, arrays)))
    except TypeError as error:
        # Functions of this test, and arguments that are arrays: these have no value here.
        assert re.search(r"be stored: <function|type ShapeDtypeStruct", str(error))  # noqa: PT017
        return
    build = lambda key: build_module(described, arrays, (), key)  # noqa: E731
    again = eqx.filter_eval_shape(build, jax.random.key(1))
    assert jax.tree.structure(again) == jax.tree.structure(module)
    assert list(map(_form, jax.tree.leaves(again))) == list(map(_form, jax.tree.leaves(module)))


def _form(leaf):
    return (leaf.shape, leaf.dtype) if hasattr(leaf, "dtype") else leaf


@each(CONCRETE, "cls")
def test_repr_shows_no_numbers_of_arrays(cls):
    text = repr(_build(cls))
    assert "array([" not in text
    assert max(map(len, text.splitlines())) < 400


def test_the_source_is_at_hand():
    assert importlib.import_module("sciml.numerics").rfftn in FUNCTIONS.values()
