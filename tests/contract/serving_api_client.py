"""Calls every method of a model server with Google's own client, and writes the answers as JSON.

In a process of its own: the package brings messages under the names that our own have, and imports TensorFlow.
Run as: python serving_api_client.py HOST:PORT MODEL FOLDER
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}

import grpc
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

TIMEOUT_S = 30


class Client:
    """The two services of one server, asked about one model."""

    def __init__(self, channel: grpc.Channel, model: str) -> None:
        self.prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(channel)
        self.model = model

    def request(self, kind: Any, signature: str = "") -> Any:
        request = kind()
        request.model_spec.name = self.model
        request.model_spec.signature_name = signature
        return request

    def predict(self) -> Any:
        request = self.request(predict_pb2.PredictRequest)
        request.inputs["x"].CopyFrom(tf.make_tensor_proto([[1.0], [2.0], [5.0]], tf.float32))
        return tf.make_ndarray(self.prediction.Predict(request, TIMEOUT_S).outputs["y"]).tolist()

    def classify(self) -> Any:
        request = self.request(classification_pb2.ClassificationRequest, "classify")
        fill(request.input, 1.0)
        classes = self.prediction.Classify(request, TIMEOUT_S).result.classifications[0].classes
        return [[each.label, each.score] for each in classes]

    def regress(self) -> Any:
        request = self.request(regression_pb2.RegressionRequest, "regress")
        fill(request.input, 1.0, 5.0)
        return [each.value for each in self.prediction.Regress(request, TIMEOUT_S).result.regressions]

    def multi_inference(self) -> Any:
        request = inference_pb2.MultiInferenceRequest()
        fill(request.input, 1.0)
        for name in ("classify", "regress"):
            task = request.tasks.add(method_name=f"tensorflow/serving/{name}")
            task.model_spec.name, task.model_spec.signature_name = self.model, name
        answer = self.prediction.MultiInference(request, TIMEOUT_S)
        return [result.WhichOneof("result") for result in answer.results]

    def metadata(self) -> Any:
        request = self.request(get_model_metadata_pb2.GetModelMetadataRequest)
        request.metadata_field.append("signature_def")
        found = get_model_metadata_pb2.SignatureDefMap()
        self.prediction.GetModelMetadata(request, TIMEOUT_S).metadata["signature_def"].Unpack(found)
        return sorted(found.signature_def)

    def status(self) -> Any:
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = self.model
        versions = self.models.GetModelStatus(request, TIMEOUT_S).model_version_status
        names = get_model_status_pb2.ModelVersionStatus.State
        return [[each.version, names.Name(each.state), each.status.error_code] for each in versions]

    def reload(self, folder: str) -> Any:
        model = f'config {{ name: "renamed" base_path: "{folder}" model_platform: "tensorflow" }}'
        request = model_management_pb2.ReloadConfigRequest()
        text_format.Parse(f"model_config_list {{ {model} }}", request.config)
        code = self.models.HandleReloadConfigRequest(request, TIMEOUT_S).status.error_code
        self.model = "renamed"
        return [code, self.predict()]


def fill(given: Any, *values: float) -> None:
    for value in values:
        given.example_list.examples.append(
            tf.train.Example(features={"feature": {"x": {"float_list": {"value": [value]}}}})
        )


def main(address: str, model: str, folder: str) -> None:
    with grpc.insecure_channel(address) as channel:
        client = Client(channel, model)
        calls = ("predict", "classify", "regress", "multi_inference", "metadata", "status")
        answers = {name: getattr(client, name)() for name in calls}
        answers["reload"] = client.reload(folder)
    sys.stdout.write(json.dumps(answers))


if __name__ == "__main__":
    main(*sys.argv[1:])
