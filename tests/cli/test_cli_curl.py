"""The request that is shown for copying."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from servable.cli.curl import curl_line
from servable.model.signatures import Signature, TensorSpec

URL = "http://127.0.0.1:8501/v1/models/m:predict"


def signature(*inputs: tuple[str, str, tuple[int, ...] | None], name: str = "serving_default") -> Signature:
    return Signature(name, tuple(TensorSpec(*each) for each in inputs), (TensorSpec("y", "FP32", (-1,)),))


def sent(line: str) -> Any:
    """The body that a shell would have curl send."""
    shell = 'curl() { [ "$2" = @- ] && cat || printf %s "$2"; }; ' + line
    run = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, timeout=30, check=True)
    return json.loads(run.stdout)


@pytest.mark.parametrize(
    ("asked", "body"),
    [
        (signature(("x", "FP32", (-1, 2))), {"instances": [[0.0, 0.0]]}),
        (signature(("x", "INT64", (-1, 28, 28))), {"instances": [[[0] * 28] * 28]}),
        (signature(("it's", "BYTES", (-1,))), {"instances": ["text"]}),
        (signature(("x", "BOOL", (-1, -1))), {"instances": [[False]]}),
        (signature(("x", "FP32", (3,))), {"inputs": [0.0, 0.0, 0.0]}),
        (signature(("x", "FP32", None)), {"inputs": 0.0}),
        (signature(("x", "FP32", (-1,)), name="other"), {"signature_name": "other", "instances": [0.0]}),
        (
            signature(("a", "FP32", (-1, 64)), ("it's", "BYTES", (-1, 1))),
            {"inputs": {"a": [[0.0] * 64], "it's": [["text"]]}},
        ),
    ],
)
def test_a_shell_sends_one_instance_of_zeros(asked: Signature, body: object) -> None:
    line = curl_line("http://127.0.0.1:8501", "m", asked)
    assert line.endswith(URL)
    assert sent(line) == body


def test_a_name_that_means_something_to_a_shell_is_quoted() -> None:
    line = curl_line("http://127.0.0.1:8501", "a b;c/d", signature(("x", "FP32", (-1,))))
    assert line.endswith("/v1/models/a%20b%3Bc%2Fd:predict")
