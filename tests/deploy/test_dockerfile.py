"""deploy/container/Dockerfile and the scripts that it runs: what can be known without building an image."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from container import ROOT, SCRIPTS
from dockerfile_parse import DockerfileParser

DOCKERFILE = SCRIPTS / "Dockerfile"
LINE = tuple[str, str]


@pytest.fixture(scope="module")
def stages() -> dict[str, list[LINE]]:
    """The instructions of each stage, under its name: (instruction, value)."""
    parser = DockerfileParser(fileobj=None, path=str(DOCKERFILE))
    found: dict[str, list[LINE]] = {"": []}
    for line in parser.structure:
        if line["instruction"] == "FROM":
            found[line["value"].split(" AS ")[1]] = []
        if line["instruction"] != "COMMENT":
            found[list(found)[-1]].append((line["instruction"], line["value"]))
    return found


def values(lines: list[LINE], instruction: str) -> list[str]:
    return [value for name, value in lines if name == instruction]


def bases(stages: dict[str, list[LINE]], name: str) -> list[str]:
    """A stage and those that it is made from, the last one first."""
    [origin] = values(stages[name], "FROM")
    base = origin.split(" AS ")[0]
    return [name, *(bases(stages, base) if base in stages else [])]


def copies(lines: list[LINE]) -> list[tuple[str, list[str]]]:
    """(stage, sources) of each COPY; no stage stands for the build context."""
    found = []
    for value in values(lines, "COPY"):
        words = shlex.split(value)
        options = dict(word[2:].split("=", 1) for word in words if word.startswith("--"))
        sources = [word for word in words if not word.startswith("--")][:-1]
        found.append((options.get("from", ""), sources))
    return found


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a path of the build context back; the last pattern that fits decides."""
    result = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!").replace("**/", "*")
        if any(fnmatch.fnmatch(part, pattern) for part in (path, *map(str, Path(path).parents))):
            result = not line.startswith("!")
    return result


def test_every_source_of_a_copy_is_there_and_is_sent_to_the_builder(stages: dict[str, list[LINE]]) -> None:
    for lines in stages.values():
        for stage, sources in copies(lines):
            assert not stage or stage in stages
            for source in sources if not stage else []:
                assert (ROOT / source).exists(), source
                assert not ignored(source), source


def test_the_builder_gets_all_that_the_package_is_built_from_and_nothing_that_was_built() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    sources = [name for name in listed if name.startswith(("src/", "native/dataplane/", "native/bindings/"))]
    assert sources
    assert not [name for name in sources if ignored(name)]
    assert ignored("src/servable/_native.abi3.so")
    assert ignored("native/dataplane/target/debug/a.rlib")
    assert ignored(".git/config")
    assert ignored("models/digits/1/model.onnx")


def test_bases_are_pinned_and_nothing_names_a_processor(stages: dict[str, list[LINE]]) -> None:
    for argument in values(stages[""], "ARG"):
        assert re.search(r"=\w+:\d+\.\d+\.\d+-slim-\w+$", argument), argument
    text = "\n".join(value for lines in stages.values() for _, value in lines)
    named = set(re.findall(r"\S*(?:x86_64|amd64|aarch64|arm64)\S*", text))
    assert named == {'"x86_64"\''}, "which of TensorFlow's two packages there is"


def test_the_rust_that_builds_is_new_enough(stages: dict[str, list[LINE]]) -> None:
    wanted = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["rust-version"]
    [image] = [value for value in values(stages[""], "ARG") if value.startswith("RUST_IMAGE")]
    found = re.search(r":(\d+)\.(\d+)", image)
    assert found is not None
    assert tuple(map(int, found.groups())) >= tuple(map(int, wanted.split(".")))


def test_packages_are_installed_at_versions_that_are_pinned(stages: dict[str, list[LINE]]) -> None:
    pins = {line.split("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    installed = set()
    for lines in stages.values():
        for value in values(lines, "RUN"):
            for command in (part for part in re.split(r"&&", value) if " install " in part and "pip" in part):
                words = shlex.split(command.split(" install ", 1)[1])
                names = {word.split(";")[0].strip() for word in words if re.match(r"[a-z]", word)}
                names -= {"constraints.txt", "requirements.txt"}
                installed |= names
                assert not names or "--constraint" in words, command
    assert installed == {"maturin", "obstore", "tensorflow-cpu", "tensorflow", "ai-edge-litert"}
    assert installed <= pins


@pytest.mark.parametrize("image", ["onnx", "tensorflow", "litert"])
def test_an_image_keeps_the_contract_of_tensorflow_servings(stages: dict[str, list[LINE]], image: str) -> None:
    lines = [line for stage in reversed(bases(stages, image)) for line in stages[stage]]
    assert [port for value in values(lines, "EXPOSE") for port in value.split()] == ["8500", "8501"]
    variables = dict(word.split("=", 1) for value in values(lines, "ENV") for word in shlex.split(value))
    assert (variables["MODEL_NAME"], variables["MODEL_BASE_PATH"]) == ("model", "/models")
    assert variables["PATH"].startswith("/opt/servable/bin:")
    assert values(lines, "USER") == ["10001:10001"]
    assert [json.loads(value) for value in values(lines, "ENTRYPOINT")] == [["entrypoint"]]
    assert not values(lines, "CMD"), "without arguments the entry point decides"
    assert "COPY" in [name for name, _ in stages[image]], "the packages come last: all else is shared"


def test_the_image_without_a_name_is_that_of_onnx(stages: dict[str, list[LINE]]) -> None:
    assert list(stages)[-1] == "onnx"


def test_the_health_check_runs_a_file_of_the_image(stages: dict[str, list[LINE]]) -> None:
    [check] = values(stages["runtime"], "HEALTHCHECK")
    [_, file] = json.loads(check.split("CMD", 1)[1])
    assert any(value.endswith(file) for value in values(stages["runtime"], "COPY"))


def test_scripts_can_be_run() -> None:
    for script in SCRIPTS.glob("*.sh"):
        assert os.access(script, os.X_OK), script


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder of packages: `big`, whose library alone is needed, and the metadata of `app`."""
    files = {
        "big/__init__.py": "raise ImportError('is not imported')",
        "big/libbig.so.2": "library",
        "big/python/ops/slow.py": "",
        "big/include/big.h": "",
        "app-1.0.dist-info/METADATA": (
            "Metadata-Version: 2.4\nName: app\nVersion: 1.0\nRequires-Dist: click>=8.1\n"
            "Requires-Dist: big>=2\nRequires-Dist: big-tool; python_version > '3'\n"
            "Requires-Dist: grpcio>=1; extra == 'grpc'\n"
        ),
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    return tmp_path


def run_tool(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    environment = {"PYTHONPATH": str(site)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_slim_leaves_the_libraries_and_a_package_that_is_found(site: Path) -> None:
    assert run_tool(site, str(SCRIPTS / "slim.py"), "big", "libbig.so.*").returncode == 0
    assert sorted(path.name for path in (site / "big").rglob("*")) == ["__init__.py", "libbig.so.2"]
    assert run_tool(site, "-c", "import big").returncode == 0


@pytest.mark.parametrize("arguments", [("big", "libother.so.*"), ("absent", "*")])
def test_slim_touches_nothing_where_the_library_is_not_there(site: Path, arguments: tuple[str, str]) -> None:
    done = run_tool(site, str(SCRIPTS / "slim.py"), *arguments)
    assert done.returncode == 1
    assert arguments[0] in done.stderr
    assert (site / "big/include/big.h").exists()


def test_requirements_are_those_of_the_package_without_extras_and_without_what_is_named(site: Path) -> None:
    done = run_tool(site, str(SCRIPTS / "requirements.py"), "app", "big")
    assert done.stdout.splitlines() == ["click>=8.1", "big-tool; python_version > '3'"]
