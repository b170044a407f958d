from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from servable.model.difference import Differences, OutputDifference
from servable.model.tolerance import Tolerance, tolerance_of
from servable.wire.tensors import Tensor, as_tensor

FLOATS = arrays.arrays(np.float32, st.integers(0, 20), elements=st.floats(width=32))


def difference(a, b, limit=None):
    a, b = as_tensor(a), as_tensor(b)
    found = OutputDifference("y", a.datatype)
    found.add(a, b, limit or tolerance_of(a.datatype))
    return found


def test_numbers_have_largest_mean_and_a_histogram_by_decades():
    found = difference(np.zeros(4), np.array([0, 0.002, 0.003, 0.5]), Tolerance(0.01, 0))
    assert (found.values, found.outside, found.outside_share, found.flips) == (4, 1, 0.25, None)
    assert found.max_absolute == 0.5
    assert found.mean_absolute == pytest.approx(0.505 / 4)
    assert [(start, count) for start, _, count in found.histogram()] == [
        (0, 1), (pytest.approx(1e-3), 2), (pytest.approx(1e-2), 0), (pytest.approx(1e-1), 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("a", "b", "flips"),
    [([1, 2, 3], [1, 0, 0], 2), (["a", "b"], ["a", "c"], 1), ([True], [True], 0)],
    ids=["integers", "strings", "booleans"],
)
def test_labels_that_differ_are_flips(a, b, flips):
    found = difference(np.array(a), np.array(b))
    assert (found.flips, found.histogram(), found.passed) == (flips, [], flips == 0)


def test_only_one_finite_number_is_infinitely_far_apart():
    found = difference(np.array([1.0, np.nan, np.inf]), np.array([np.nan, np.nan, np.inf]))
    assert (found.max_absolute, found.outside, found.mean_absolute) == (math.inf, 1, 0)
    assert found.histogram()[-1][1:] == (math.inf, 1)


def test_patterns_of_bfloat16_are_numbers():
    one = Tensor("BF16", np.array([0x3F80], np.uint16))
    found = OutputDifference("y", "BF16")
    found.add(one, Tensor("BF16", np.array([0x4000], np.uint16)), Tolerance(0, 0))
    assert (found.max_absolute, found.flips) == (1.0, None)


@given(FLOATS, FLOATS)
def test_every_value_is_in_the_histogram_once(a, b):
    size = min(len(a), len(b))
    found = difference(a[:size], b[:size])
    assert sum(count for *_, count in found.histogram()) == found.values == size
    assert difference(a, a).passed


def test_outputs_that_cannot_be_compared_do_not_pass():
    found = Differences({})
    assert not found.passed, "nothing was compared"
    y, n = as_tensor(np.ones(2)), as_tensor(np.ones(2, np.int64))
    found.add("s", {"y": y, "z": y, "w": y}, {"y": n, "z": as_tensor(np.ones(3)), "v": y})
    assert [each.problem for each in found.outputs.values()] == [
        "is INT64 instead of FP64",
        "has shape [3] instead of [2]",
        "is given by the first version alone",
        "is given by the second version alone",
    ]
    assert not found.passed
