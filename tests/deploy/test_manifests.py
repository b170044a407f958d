"""deploy/kubernetes, deploy/kserve, deploy/compose.yaml: valid by schema, whole, and true of a real server."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from typing import TYPE_CHECKING, Any

import grpc
import kubernetes_validate
import pytest
import yaml
from container import ROOT, status
from manifests import (
    BASE,
    DEPLOY,
    FILES,
    KSERVE,
    SECURED,
    containers,
    documents,
    environment,
    objects,
    one,
    runtimes,
    seconds,
)

import tiny_models
from servable.cli import serve_loop
from servable.settings import ServerSettings, load_server_settings
from servable.settings.table import table
from servable.settings.token_file import create_token
from version_folders import publish_onnx

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from servable.server import ModelServer

# The newest that there are schemas of, and the oldest that has every field in its stable form.
KUBERNETES = (kubernetes_validate.latest_version(), "1.31.0")
IMAGE = "ghcr.io/servable/servable"
# Fields of ServingRuntimeSpec and ServingRuntimePodSpec that a runtime of one model may have.
# Source: pkg/apis/serving/v1alpha1/servingruntime_types.go of kserve/kserve.
RUNTIME_FIELDS = {"annotations", "containers", "protocolVersions", "supportedModelFormats", "volumes"}
FORMAT_FIELDS = {"autoSelect", "name", "priority", "version"}
PROTOCOLS = {"v1", "v2", "grpc-v1", "grpc-v2"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_a_file_is_yaml_with_each_key_once(path: Path) -> None:
    assert documents(path)


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("manifest", objects(BASE), ids=lambda manifest: manifest["kind"])
def test_a_manifest_is_valid_by_kubernetes_own_schema(manifest: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(manifest, version, strict=True)


def test_the_kustomizations_name_files_that_are_there_and_leave_out_none() -> None:
    for path in DEPLOY.rglob("kustomization.yaml"):
        [kustomization] = documents(path)
        named = kustomization["resources"] + [patch["path"] for patch in kustomization.get("patches", [])]
        for name in named:
            assert (path.parent / name).exists(), f"{path}: {name}"
        beside = {file.name for file in path.parent.glob("*.yaml")} - {"kustomization.yaml"}
        assert beside <= set(named)


@pytest.mark.skipif(shutil.which("kustomize") is None, reason="kustomize is not installed")
@pytest.mark.parametrize("name", ["base", "tensorflow", "secured"])
def test_kustomize_builds_what_kubernetes_takes(name: str, tmp_path: Path) -> None:
    folder = shutil.copytree(DEPLOY / "kubernetes", tmp_path / "kubernetes") / name
    create_token(tmp_path / "kubernetes" / "secured" / "tokens.json", "app", ["predict"])
    for file in ("tls.crt", "tls.key"):
        (tmp_path / "kubernetes" / "secured" / file).write_text("PEM")
    done = subprocess.run(["kustomize", "build", str(folder)], capture_output=True, text=True, timeout=60, check=True)
    built = list(yaml.safe_load_all(done.stdout))
    assert {each["kind"] for each in built} >= {each["kind"] for each in objects(BASE)}
    for each in built:
        kubernetes_validate.validate(each, KUBERNETES[0], strict=True)
    [deployment] = [each for each in built if each["kind"] == "Deployment"]
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"].startswith(f"{IMAGE}:")
    assert ("SERVABLE_INSECURE" in environment(container)) == (name != "secured")


def test_what_is_named_is_there() -> None:
    """Selectors, ports, claims, accounts and scaled objects, which no schema compares."""
    deployment = one("Deployment")["spec"]
    labels = deployment["template"]["metadata"]["labels"].items()
    pod = deployment["template"]["spec"]
    ports = {port["name"] for port in pod["containers"][0]["ports"]}
    assert deployment["selector"]["matchLabels"].items() <= labels
    for service in (each for each in objects(BASE) if each["kind"] == "Service"):
        assert service["spec"]["selector"].items() <= labels
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    assert one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"].items() <= labels
    policy = one("NetworkPolicy")["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= labels
    assert {port["port"] for rule in policy["ingress"] for port in rule["ports"]} <= ports
    target = one("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", one("Deployment")["metadata"]["name"])
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == one("PersistentVolumeClaim")["metadata"]["name"]
    assert pod["serviceAccountName"] == one("ServiceAccount")["metadata"]["name"]
    volumes = {volume["name"] for volume in pod["volumes"]}
    assert {mount["name"] for mount in pod["containers"][0]["volumeMounts"]} <= volumes


@pytest.mark.parametrize("container", [pytest.param(each, id=name) for name, each in containers()])
def test_a_container_may_do_no_more_than_pod_security_calls_restricted(container: dict[str, Any]) -> None:
    pod = one("Deployment")["spec"]["template"]["spec"]["securityContext"]
    context = pod | container["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] == 10001
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["allowPrivilegeEscalation"] is context["privileged"] is False
    assert context["readOnlyRootFilesystem"] is True
    assert {mount["mountPath"] for mount in container["volumeMounts"]} >= {"/tmp"}
    assert container["resources"]["limits"]["memory"]


@pytest.mark.parametrize("container", [pytest.param(each, id=name) for name, each in containers()])
def test_options_and_variables_of_a_container_are_settings_of_the_server(container: dict[str, Any]) -> None:
    entry_point = {"SERVABLE_BIND": "0.0.0.0"}
    flags = {setting.flag: setting for setting in table(ServerSettings)}
    given = [argument.partition("=") for argument in container["args"] if argument.startswith("--")]
    values = {flags[flag].name: value if equals else "true" for flag, equals, value in given}
    assert load_server_settings(values, environ=entry_point | environment(container)).values.insecure


def test_the_secured_server_asks_for_tokens_and_speaks_tls() -> None:
    patch = one("Deployment", SECURED)["spec"]["template"]["spec"]
    [container] = patch["containers"]
    variables = {"SERVABLE_BIND": "0.0.0.0", **environment(container)}
    settings = load_server_settings(environ=variables).values
    assert not settings.insecure
    [kustomization] = documents(SECURED / "kustomization.yaml")
    secrets = {each["name"]: each["files"] for each in kustomization["secretGenerator"]}
    mounted = {volume["name"]: secrets[volume["secret"]["secretName"]] for volume in patch["volumes"]}
    files = {f"{mount['mountPath']}/{file}" for mount in container["volumeMounts"] for file in mounted[mount["name"]]}
    assert {settings.tls_cert, settings.tls_key, settings.tokens} == files
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["scheme"] == "HTTPS"


def test_kubernetes_waits_as_long_as_the_server_takes_to_stop() -> None:
    pod = one("Deployment")["spec"]["template"]["spec"]
    [container] = pod["containers"]
    grace = seconds(environment(container)["SERVABLE_GRACE_PERIOD"])
    pause = float(container["lifecycle"]["preStop"]["exec"]["command"][1])
    unloading = serve_loop._MARGIN_S + serve_loop._UNLOAD_S
    assert pod["terminationGracePeriodSeconds"] >= pause + grace + unloading


def test_every_probe_is_answered_without_a_token(
    start: Callable[..., ModelServer], models: Path, tmp_path: Path
) -> None:
    publish_onnx(models / "doubled", 1, tiny_models.double())
    create_token(tmp_path / "tokens.json", "app", ["predict"])
    server = start(tokens=str(tmp_path / "tokens.json"))
    kinds = ("startupProbe", "readinessProbe", "livenessProbe")
    probes = [probe for _, container in containers() for kind in kinds if (probe := container.get(kind))]
    assert len(probes) == 9
    for path in {probe["httpGet"]["path"] for probe in probes if "httpGet" in probe}:
        assert status(f"http://{server.addresses.rest}{path}") == 200, path
    with grpc.insecure_channel(server.addresses.grpc) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        for service in {probe["grpc"].get("service", "") for probe in probes if "grpc" in probe}:
            # HealthCheckRequest{service}; HealthCheckResponse{status: SERVING}.
            request = bytes([0x0A, len(service)]) + service.encode() if service else b""
            assert check(request, timeout=20) == b"\x08\x01", service


@pytest.mark.parametrize("runtime", runtimes(), ids=lambda runtime: runtime["metadata"]["name"])
def test_a_serving_runtime_has_fields_that_kserve_knows_and_a_valid_container(runtime: dict[str, Any]) -> None:
    spec = runtime["spec"]
    assert runtime["apiVersion"] == "serving.kserve.io/v1alpha1"
    assert spec.keys() <= RUNTIME_FIELDS
    assert all(each.keys() <= FORMAT_FIELDS and "name" in each for each in spec["supportedModelFormats"])
    assert set(spec["protocolVersions"]) <= PROTOCOLS
    [container] = spec["containers"]
    assert container["name"] == "kserve-container"
    assert len(container["ports"]) == 1, "Knative takes one"
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "predictor"},
        "spec": {"containers": [container], "volumes": spec["volumes"]},
    }
    kubernetes_validate.validate(pod, KUBERNETES[0], strict=True)


def test_the_example_services_name_runtimes_that_take_them() -> None:
    by_name = {runtime["metadata"]["name"]: runtime["spec"] for runtime in runtimes()}
    services = [each for each in objects(KSERVE) if each["kind"] == "InferenceService"]
    assert {service["apiVersion"] for service in services} == {"serving.kserve.io/v1beta1"}
    for service in services:
        model = service["spec"]["predictor"]["model"]
        runtime = by_name[model["runtime"]]
        assert model["modelFormat"]["name"] in {each["name"] for each in runtime["supportedModelFormats"]}
        assert model["protocolVersion"] in runtime["protocolVersions"]


def test_compose_starts_servers_with_files_and_settings_that_there_are() -> None:
    [compose] = documents(DEPLOY / "compose.yaml")
    services = compose["services"]
    build = services["servable"]["build"]
    context = DEPLOY / build["context"]
    assert (context / build["dockerfile"]).is_file()
    settings = load_server_settings(environ={"SERVABLE_BIND": "0.0.0.0", **services["servable"]["environment"]}).values
    unloading = serve_loop._MARGIN_S + serve_loop._UNLOAD_S
    assert seconds(services["servable"]["stop_grace_period"]) >= settings.grace_period + unloading
    for service in services.values():
        for volume in service["volumes"]:
            place = volume.split(":", maxsplit=1)[0]
            if place.startswith("./"):
                assert (DEPLOY / place).exists(), place
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        assert re.search(r":v?\d+\.\d+\.\d+$", service.get("image", ":0.0.0")), "images are pinned"


def test_images_have_the_version_of_the_package() -> None:
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    [kustomization] = documents(BASE / "kustomization.yaml")
    [image] = kustomization["images"]
    assert (image["newName"], image["newTag"]) == (IMAGE, version)
    [kustomization] = documents(DEPLOY / "kubernetes" / "tensorflow" / "kustomization.yaml")
    assert kustomization["images"] == [{"name": IMAGE, "newTag": f"{version}-tensorflow"}]
    for runtime in runtimes():
        assert re.fullmatch(rf"{IMAGE}:{version}-(tensorflow|litert)", runtime["spec"]["containers"][0]["image"])
