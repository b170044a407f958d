"""What several folders of tests need: servers in this process on free ports, and Google's code for our contracts."""

from __future__ import annotations

import importlib
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import grpc
import grpc_tools
import numpy as np
import pytest
from grpc_tools import protoc

from bucket_server import BucketServer
from gates import Gate
from servers import model_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import ArrayLike

    from servable.server import ModelServer

# PyTorch imports it where it is installed, with an LLVM of its own; after that of TensorFlow, that ends the process.
sys.modules.setdefault("triton", None)  # type: ignore[arg-type]  # which makes the import fail

PROTO = Path(__file__).parents[1] / "proto"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """An empty folder for model folders."""
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


@pytest.fixture
def start(models: Path) -> Iterator[Callable[..., ModelServer]]:
    """Starts servers of the folder `models`: `start(**settings)`. `ready=False` does not wait for its models."""
    with ExitStack() as running:

        def start_one(*, ready: bool = True, **settings: Any) -> ModelServer:
            server = running.enter_context(model_server(models, **settings))
            if ready:
                server.wait_until_ready(20)
            return server

        yield start_one


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[BucketServer]:
    """An empty store on loopback, to which `s3://` and `gs://` lead; and an empty cache."""
    server = BucketServer()
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
    monkeypatch.setenv("SERVABLE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # for processes that are started without the variable before
    yield server
    server.close()


@pytest.fixture
def gate() -> Iterator[Gate]:
    """A Python model that stops until it is let go."""
    gate = Gate()
    yield gate
    gate.open()


@pytest.fixture(scope="session")
def proto_stubs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Google's own code for our contracts, importable; the folder that it is in."""
    folder = tmp_path_factory.mktemp("stubs")
    files = [str(path.relative_to(PROTO)) for path in PROTO.glob("tensorflow*/**/*.proto")]
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    options = [f"-I{PROTO}", f"-I{well_known}", f"--python_out={folder}", f"--grpc_python_out={folder}"]
    assert protoc.main(["protoc", *options, *files]) == 0
    # Without it the package tensorflow-serving-api would be found first.
    (folder / "tensorflow_serving" / "__init__.py").touch()
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


@pytest.fixture(scope="session")
def tfs(proto_stubs: Path) -> SimpleNamespace:
    """TensorFlow Serving's messages and services: `tfs.predict.PredictRequest`, `tfs.prediction(channel)`."""

    def apis(name: str) -> Any:
        return importlib.import_module(f"tensorflow_serving.apis.{name}")

    tensors = importlib.import_module("tensorflow.core.framework.tensor_pb2")

    def floats(values: ArrayLike) -> Any:
        """A TensorProto of float32."""
        array = np.asarray(values, np.float32)
        tensor = tensors.TensorProto(dtype=1, float_val=array.ravel().tolist())
        for size in array.shape:
            tensor.tensor_shape.dim.add(size=size)
        return tensor

    return SimpleNamespace(
        predict=apis("predict_pb2"),
        metadata=apis("get_model_metadata_pb2"),
        status=apis("get_model_status_pb2"),
        classification=apis("classification_pb2"),
        regression=apis("regression_pb2"),
        inference=apis("inference_pb2"),
        log=apis("prediction_log_pb2"),
        example=importlib.import_module("tensorflow.core.example.example_pb2"),
        management=apis("model_management_pb2"),
        config=importlib.import_module("tensorflow_serving.config.model_server_config_pb2"),
        tensor=tensors,
        floats=floats,
        prediction=apis("prediction_service_pb2_grpc").PredictionServiceStub,
        model=apis("model_service_pb2_grpc").ModelServiceStub,
    )


@pytest.fixture
def channel() -> Iterator[Callable[[ModelServer], grpc.Channel]]:
    """`channel(server)`: a gRPC channel of its own to a server."""
    with ExitStack() as stack:

        def connect(server: ModelServer) -> grpc.Channel:
            options = [("grpc.use_local_subchannel_pool", 1)]
            return stack.enter_context(grpc.insecure_channel(server.addresses.grpc, options=options))

        yield connect


def made_by(script: str, folder: Path) -> Path:
    path = Path(__file__).with_name(script)
    done = subprocess.run(
        [sys.executable, str(path), str(folder)], capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def saved_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of model folders with SavedModels, see `saved_models.py`. Do not write into it."""
    return made_by("saved_models.py", tmp_path_factory.mktemp("saved_models"))


@pytest.fixture(scope="session")
def tflite_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of model folders with TensorFlow Lite models, see `tflite_models.py`. Do not write into it."""
    return made_by("tflite_models.py", tmp_path_factory.mktemp("tflite_models"))
