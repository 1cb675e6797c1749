"""Lists repeat, iterables are walked and fast-forwarded, and what is no source is refused."""

import jax.numpy as jnp
import numpy as np
import pytest

from sciml.train._batches import as_batch_source, describe_batch


class Squares:
    def __getitem__(self, step):
        return step**2

    def describe(self, step):
        return f"the square of {step}"


class Epochs:
    """An iterable that shuffles by itself: each epoch another order."""

    def __init__(self):
        self.epoch = 0

    def __iter__(self):
        self.epoch += 1
        return iter([self.epoch * 10 + i for i in range(3)])


def test_a_source_is_used_as_it_is():
    source = as_batch_source(Squares())
    assert source[12] == 144
    assert describe_batch(source, 3) == "the square of 3"


def test_a_list_repeats():
    source = as_batch_source(["a", "b", "c"])
    assert [source[step] for step in (0, 2, 3, 7)] == ["a", "c", "a", "b"]
    assert describe_batch(source, 7) == "batch 1 of 3"


def test_an_iterable_is_fast_forwarded():
    straight, resumed = as_batch_source(Epochs()), as_batch_source(Epochs())
    all_batches = [straight[step] for step in range(8)]
    assert [resumed[step] for step in range(5, 8)] == all_batches[5:]
    assert describe_batch(resumed, 5) == "batch 5"
    with pytest.raises(ValueError, match="cannot go back to step 2"):
        resumed[2]


def test_a_generator_runs_out_by_name():
    source = as_batch_source(x for x in range(4))
    assert source[3] == 3
    with pytest.raises(ValueError, match="ran out after 4 steps"):
        source[4]


class Once:
    def __init__(self):
        self.left = [[1, 2], []]

    def __iter__(self):
        return iter(self.left.pop(0))


def test_an_iterable_that_is_empty_the_second_time():
    with pytest.raises(ValueError, match="ran out after 2 steps and gave nothing"):
        as_batch_source(Once())[2]


@pytest.mark.parametrize("wrong", [np.zeros(3), jnp.zeros(3), {"x": 1}, "abc", b"abc"])
def test_one_thing_is_no_source(wrong):
    with pytest.raises(TypeError, match=r"one batch for each step.*got a single"):
        as_batch_source(wrong)


def test_other_refusals():
    with pytest.raises(TypeError, match="got an object of type int"):
        as_batch_source(3)
    with pytest.raises(ValueError, match="`batches` is empty"):
        as_batch_source([])
