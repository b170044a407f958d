"""Networks of PyTorch and JAX, saved and then served over REST and gRPC: answers are those of the framework."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import requests

from servable.convert.save import save

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import SimpleNamespace

    import grpc

    from servable.server import ModelServer

IMAGES = np.random.default_rng(0).integers(0, 255, (7, 4), np.uint8)


def save_torch(folder: Path) -> np.ndarray:
    import torch

    net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Softmax(-1)).eval()
    save(net, folder, examples=IMAGES[:2], preprocess=lambda x: x / 255, input_name="images")
    with torch.no_grad():
        return net(torch.from_numpy(IMAGES) / 255).numpy()


def save_jax(folder: Path) -> np.ndarray:
    import jax

    def net(weights: Any, x: Any) -> Any:
        return jax.nn.softmax(x @ weights)

    weights = jax.random.normal(jax.random.key(0), (4, 3))
    save(partial(net, weights), folder, examples=IMAGES[:2], preprocess=lambda x: x / 255, input_name="images")
    return np.asarray(net(weights, IMAGES / 255))


@pytest.mark.parametrize(
    "save_net",
    [pytest.param(save_torch, marks=pytest.mark.torch), pytest.param(save_jax, marks=pytest.mark.jax)],
    ids=["torch", "jax"],
)
def test_a_network_is_served_over_rest_and_grpc(
    save_net: Callable[[Path], np.ndarray],
    models: Path,
    start: Callable[..., ModelServer],
    tfs: SimpleNamespace,
    channel: Callable[[ModelServer], grpc.Channel],
) -> None:
    expected = save_net(models / "net")
    server = start()
    url = f"http://{server.addresses.rest}/v1/models/net:predict"
    answer = requests.post(url, json={"instances": IMAGES.tolist()}, timeout=20)
    assert answer.status_code == 200, answer.text
    np.testing.assert_allclose(answer.json()["predictions"], expected, atol=1e-5)
    request = tfs.predict.PredictRequest()
    request.model_spec.name = "net"
    pixels = tfs.tensor.TensorProto(dtype=4, tensor_content=IMAGES[:1].tobytes())
    for size in (1, 4):
        pixels.tensor_shape.dim.add(size=size)
    request.inputs["images"].CopyFrom(pixels)
    outputs = tfs.prediction(channel(server)).Predict(request, timeout=20).outputs
    np.testing.assert_allclose(np.reshape(outputs["outputs"].float_val, (1, 3)), expected[:1], atol=1e-5)
