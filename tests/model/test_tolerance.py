from __future__ import annotations

import numpy as np
import pytest

import tiny_models
from servable.convert.save import save
from servable.errors import InvalidArgument
from servable.model.tolerance import Tolerance, check_tolerance, tolerance_from_json, tolerance_of


@pytest.mark.parametrize("limits", [(-1, 0), (0, float("nan")), (float("inf"), 0)], ids=["below 0", "NaN", "infinite"])
def test_limits_that_would_let_everything_pass_or_nothing_are_refused(limits):
    with pytest.raises(InvalidArgument, match="two finite numbers"):
        Tolerance(*limits)
    with pytest.raises(InvalidArgument):
        tolerance_from_json({"FP32": {"absolute": limits[0], "relative": limits[1]}})


def test_what_is_given_goes_before_the_default_of_its_datatype_alone():
    given = check_tolerance({"FP32": Tolerance(1, 0), "INT64": Tolerance(2, 0)})
    assert tolerance_of("FP32", given) == Tolerance(1, 0)
    assert tolerance_of("INT64", given) == Tolerance(2, 0)
    assert tolerance_of("FP64", given) == tolerance_of("FP64")
    assert tolerance_of("BYTES", given) == Tolerance(0, 0)


@pytest.mark.parametrize("given", [{"float32": Tolerance(1, 0)}, {"FP32": 0.1}], ids=["name", "number"])
def test_a_tolerance_that_would_be_passed_over_is_refused_by_save(given, tmp_path):
    with pytest.raises(InvalidArgument, match="tolerance"):
        save(tiny_models.double(), tmp_path / "m", examples=np.ones((2, 2), np.float32), tolerance=given)
    assert not (tmp_path / "m" / "1").exists()
