"""The YAML files of deploy/, read once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml
from container import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEPLOY = ROOT / "deploy"
FILES = sorted(path for path in DEPLOY.rglob("*.yaml"))
BASE = DEPLOY / "kubernetes" / "base"
SECURED = DEPLOY / "kubernetes" / "secured"
KSERVE = DEPLOY / "kserve"


class UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a key that stands twice in one mapping, of which YAML would take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"{node.start_mark}: {keys}"
        return super().construct_mapping(node, deep=deep)


def documents(path: Path) -> list[dict[str, Any]]:
    return [each for each in yaml.load_all(path.read_text(), UniqueKeyLoader) if each is not None]


def objects(folder: Path) -> list[dict[str, Any]]:
    """What a folder creates in a cluster."""
    paths = [path for path in sorted(folder.glob("*.yaml")) if path.name != "kustomization.yaml"]
    return [each for path in paths for each in documents(path)]


def one(kind: str, folder: Path = BASE) -> dict[str, Any]:
    [found] = [each for each in objects(folder) if each["kind"] == kind]
    return found


def containers() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every container of the server in Kubernetes, with the name of what it belongs to."""
    deployment = one("Deployment")
    yield "Deployment", deployment["spec"]["template"]["spec"]["containers"][0]
    for runtime in runtimes():
        yield runtime["metadata"]["name"], runtime["spec"]["containers"][0]


def runtimes() -> list[dict[str, Any]]:
    return [each for each in objects(KSERVE) if each["kind"] == "ClusterServingRuntime"]


def environment(container: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container.get("env", []) if "value" in each}


def seconds(text: str) -> float:
    assert text.endswith("s")
    return float(text[:-1])
