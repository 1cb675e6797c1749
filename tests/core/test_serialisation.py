"""A module comes back as it was; what cannot come back is refused when it is saved."""

import enum
import os
import sys
import types
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sciml


class Normaliser(eqx.Module):
    mean: jax.Array
    std: np.ndarray


class Layer(eqx.Module):
    weight: jax.Array
    index: jax.Array
    size: int = eqx.field(static=True)
    activation: Callable

    def __init__(self, size: int, activation: Callable = jax.nn.gelu, *, key):
        self.size = size
        self.activation = activation
        self.weight = jax.random.normal(key, (size, size))
        self.index = jnp.arange(size)


class Model(eqx.Module):
    layers: list[Layer]
    low: jax.Array
    noise_key: jax.Array
    normaliser: Normaliser | None
    sizes: tuple[int, ...] = eqx.field(static=True)
    options: dict = eqx.field(static=True)
    limit: float
    post: Callable = eqx.field(static=True)
    _first: Callable = eqx.field(static=True)

    def __init__(self, sizes, normaliser=None, limit=float("inf"), options=None, *, key):
        self.sizes = tuple(sizes)
        self.normaliser = normaliser
        self.limit = limit
        self.options = dict(options or {})
        self.post = lambda x: x * 2
        self._first = jnp.tanh
        keys = jax.random.split(key, len(self.sizes))
        self.layers = [Layer(n, key=k) for n, k in zip(self.sizes, keys, strict=True)]
        self.low = jnp.ones(3, jnp.bfloat16)
        self.noise_key = jax.random.key(5, impl="rbg")


CLASSES = (Model, Layer, Normaliser)


@pytest.fixture
def model(getkey):
    normaliser = Normaliser(jnp.arange(2.0), np.array([3.0, 4.0]))
    options = {"names": ("u", "v"), "scale": None, "dtype": np.dtype("float32"), "steps": [1, 2.5]}
    return Model((2, 3), normaliser, options=options, key=getkey())


def _same(a, b):
    same = jax.tree.map(
        lambda x, y: type(x) is type(y) and np.array_equal(_data(x), _data(y)), a, b
    )
    return all(jax.tree.leaves(same))


def _data(x):
    is_key = isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(x) if is_key else x


def test_round_trip(model, tmp_path):
    sciml.save(tmp_path / "deep" / "model", model)
    loaded = sciml.load(tmp_path / "deep" / "model", CLASSES)
    for a, b in zip(jax.tree.leaves(model), jax.tree.leaves(loaded), strict=True):
        assert type(a) is type(b)
        if eqx.is_array(a):
            assert a.dtype == b.dtype
        assert np.array_equal(_data(a), _data(b))
    assert loaded.sizes == model.sizes
    assert loaded.options == model.options
    assert loaded.limit == float("inf")
    assert loaded.low.dtype == jnp.bfloat16


def test_equal_modules_give_equal_files(model, tmp_path):
    sciml.save(tmp_path / "a", model)
    sciml.save(tmp_path / "b", model)
    for name in os.listdir(tmp_path / "a"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_numpy_reads_the_arrays_without_pickle(model, tmp_path):
    sciml.save(tmp_path, model)
    (arrays,) = tmp_path.glob("arrays-*.npz")
    with np.load(arrays, allow_pickle=False) as stored:
        assert np.array_equal(stored[".layers[1].weight"], model.layers[1].weight)


def test_overwriting_leaves_two_files(model, tmp_path, getkey):
    sciml.save(tmp_path, Layer(2, key=getkey()))
    (tmp_path / "notes.txt").write_text("mine")
    sciml.save(tmp_path, model)
    assert len(os.listdir(tmp_path)) == 3
    assert sciml.load(tmp_path, CLASSES).sizes == (2, 3)


def test_a_cast_module_keeps_its_dtype(tmp_path, getkey):
    layer = Layer(3, key=getkey())
    cast = jax.tree.map(lambda x: x.astype(jnp.bfloat16) if eqx.is_inexact_array(x) else x, layer)
    sciml.save(tmp_path, cast)
    loaded = sciml.load(tmp_path, (Layer,))
    assert loaded.weight.dtype == jnp.bfloat16
    assert np.array_equal(loaded.weight, cast.weight)


def test_layout_and_byte_order_of_numpy_leaves(tmp_path):
    std = np.asfortranarray(np.arange(6.0).reshape(2, 3)).astype(">f4")
    module = Normaliser(jnp.zeros(()), std)
    sciml.save(tmp_path, module)
    assert np.array_equal(sciml.load(tmp_path, CLASSES).std, std)
    sciml.load(tmp_path, CLASSES).std[0, 0] = 5.0  # it is ours to write to


def test_float64_needs_x64(tmp_path, getkey):
    with jax.enable_x64(True):
        layer = Layer(2, key=getkey())
        sciml.save(tmp_path, layer)
        assert sciml.load(tmp_path, CLASSES).weight.dtype == jnp.float64
    with pytest.raises(ValueError, match=r"weight' is stored in float64.*jax_enable_x64"):
        sciml.load(tmp_path, CLASSES)


def test_float32_loads_under_x64(tmp_path, getkey):
    sciml.save(tmp_path, Layer(2, key=getkey()))
    with jax.enable_x64(True):
        assert sciml.load(tmp_path, CLASSES).weight.dtype == jnp.float32


def test_like_needs_no_class(model, tmp_path, getkey):
    sciml.save(tmp_path, model)
    blank = Model(
        (2, 3), Normaliser(jnp.zeros(2), np.zeros(2)), options=model.options, key=getkey()
    )
    assert _same(sciml.load(tmp_path, like=blank).layers, model.layers)
    with pytest.raises(ValueError, match=r"layers\[1\].* has no place in the module"):
        sciml.load(tmp_path, like=Model((2,), key=getkey()))


class Filtered(eqx.Module):
    """Keeps the transform of an argument, which is a property and not a leaf."""

    transform: jax.Array

    def __init__(self, values):
        if not np.all(np.isfinite(values)):
            raise ValueError("finite values only")
        self.transform = jnp.fft.rfft(values, norm="forward")

    @property
    def values(self):
        return jnp.fft.irfft(self.transform, norm="forward")


def test_an_array_argument_that_is_no_leaf(tmp_path, getkey):
    inner = Filtered(jax.random.normal(getkey(), (8,)))
    sciml.save(tmp_path, Holder(inner))
    loaded = sciml.load(tmp_path, (Holder, Filtered))
    assert np.array_equal(loaded.thing.transform, inner.transform)
    blank = Holder(Filtered(jnp.zeros(8)))
    assert np.array_equal(sciml.load(tmp_path, like=blank).thing.transform, inner.transform)


class Shade(enum.Enum):
    LIGHT = 1
    DARK = 2


class Twice(eqx.Module):
    """An activation of the reader's own, which networks keep in a static field."""

    shade: Shade = Shade.LIGHT

    def __call__(self, x):
        return 2 * x


class Network(eqx.Module):
    activation: Twice = eqx.field(static=True)
    weight: jax.Array

    def __init__(self, activation, *, key):
        self.activation = activation
        self.weight = jax.random.normal(key, (3,))


def test_classes_of_the_reader_may_be_arguments_in_static_fields(tmp_path, getkey):
    model = Network(Twice(Shade.DARK), key=getkey())
    sciml.save(tmp_path, model)
    loaded = sciml.load(tmp_path, (Network, Twice, Shade))
    assert loaded.activation.shade is Shade.DARK
    assert eqx.tree_equal(loaded, model)
    with pytest.raises(ValueError, match=r"unknown class .*Shade"):
        sciml.load(tmp_path, (Network, Twice))


def test_a_class_of_another_module_is_told_from_a_missing_one(tmp_path):
    sciml.save(tmp_path, Twice())
    moved = type("Twice", (eqx.Module,), {"__module__": "elsewhere"})
    with pytest.raises(ValueError, match=r"the one passed is 'elsewhere\.Twice', of another mod"):
        sciml.load(tmp_path, (moved,))


def test_a_public_class_of_sciml_is_known(monkeypatch, tmp_path):
    package = types.ModuleType("sciml.made_up")
    module = type("PublicModule", (eqx.Module,), {"__annotations__": {"size": int}})
    module.__module__ = "sciml.made_up._file"
    package.PublicModule = module
    monkeypatch.setitem(sys.modules, "sciml.made_up", package)
    sciml.save(tmp_path, module(4))
    assert '"sciml.made_up.PublicModule"' in (tmp_path / "config.json").read_text()
    assert sciml.load(tmp_path) == module(4)

    del package.PublicModule
    with pytest.raises(ValueError, match=r"no public class 'sciml\.made_up\.PublicModule'"):
        sciml.load(tmp_path)
    with pytest.raises(TypeError, match="private to sciml"):
        sciml.save(tmp_path, module(4))


# --- what cannot be rebuilt is refused at save ---


class Forgetful(eqx.Module):
    weight: jax.Array

    def __init__(self, size):
        self.weight = jnp.zeros(size)


class Greedy(eqx.Module):
    sizes: tuple

    def __init__(self, *sizes):
        self.sizes = sizes


class Holder(eqx.Module):
    thing: object


class Changing(eqx.Module):
    scale: float = eqx.field(static=True)

    def __init__(self, scale):
        self.scale = 2 * scale


def _refusals(key):
    layer = Layer(3, key=key)
    wider = eqx.tree_at(lambda m: m.weight, layer, jnp.zeros((4, 3)))
    other = eqx.tree_at(lambda m: m.activation, layer, jnp.tanh)
    return {
        "not kept": (Forgetful(3), TypeError, "takes 'size' and does not keep it"),
        "star": (Greedy(1, 2), TypeError, r"takes \*sizes, which cannot be passed by name"),
        "wider": (wider, ValueError, r"'\.weight' must have shape \(3, 3\), got \(4, 3\)"),
        "lost leaf": (
            eqx.tree_at(lambda m: m.index, layer, None),
            ValueError,
            "leaf '.index' is missing",
        ),
        "static": (Changing(1.5), ValueError, "'scale' would be 6.0 instead of 3.0"),
        "lambda": (
            Layer(3, lambda x: x, key=key),
            TypeError,
            "'activation' cannot be stored: <function",
        ),
        "stranger": (
            Layer(3, os.path.join, key=key),
            TypeError,
            "join.* is not a function that jax.nn",
        ),
        "set": (Holder({1, 2}), TypeError, "'thing' is of type set"),
        "int keys": (Holder({1: 2}), TypeError, "'thing' is of type dict"),
        "complex": (Holder(1j), TypeError, "'thing' is of type complex"),
        "objects": (Holder(np.array([None])), TypeError, "dtype object, which cannot be stored"),
        "no module": ([layer], TypeError, "only Equinox modules|Expected type.*Module"),
        "other value": (other, None, ""),
    }


@pytest.mark.parametrize("case", list(_refusals(jax.random.key(5))))
def test_refused_at_save(case, tmp_path, getkey):
    module, error, match = _refusals(getkey())[case]
    if error is None:  # a change that the constructor can make again is saved
        sciml.save(tmp_path / "m", module)
        assert sciml.load(tmp_path / "m", CLASSES).activation is jnp.tanh
        return
    with pytest.raises(error, match=match):
        sciml.save(tmp_path / "m", module)
    assert not (tmp_path / "m").exists()
