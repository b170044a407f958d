"""deploy/grafana and deploy/prometheus: every query can be parsed, and asks for what a real server's page has."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import promql_parser
import pytest
import yaml
from container import ROOT, status

import tiny_models
from servable.client import Client
from servable.convert.save import save
from servable.lifecycle import State
from servers import eventually, metric
from version_folders import publish_onnx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from servable.server import ModelServer

DEPLOY = ROOT / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana" / "servable.json").read_text())
ALERTS = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
# What Prometheus itself adds to every sample.
FROM_PROMETHEUS = {"job", "instance"}
# Grafana puts values in the place of these before it asks.
VARIABLES = {"$__rate_interval": "5m", "$job": ".+", "$model": ".+"}

Page = dict[str, dict[str, set[str]]]


def rules() -> list[dict[str, Any]]:
    return [rule for group in ALERTS["groups"] for rule in group["rules"]]


def queries() -> Iterator[tuple[str, str]]:
    """Where a query stands, and its text, without Grafana's variables."""
    for panel in PANELS:
        for target in panel["targets"]:
            yield f"{panel['title']}: {target['refId']}", without_variables(target["expr"])
    for annotation in DASHBOARD["annotations"]["list"]:
        yield annotation["name"], without_variables(annotation["expr"])
    for rule in rules():
        yield rule["alert"], rule["expr"]


def without_variables(query: str) -> str:
    for name, value in VARIABLES.items():
        query = query.replace(name, value)
    return query


QUERIES = dict(queries())


def nodes(expression: Any) -> Iterator[Any]:
    """An expression of PromQL and all that it is made of."""
    yield expression
    for attribute in ("lhs", "rhs", "expr", "param", "vector_selector"):
        if (part := getattr(expression, attribute, None)) is not None:
            yield from nodes(part)
    for argument in getattr(expression, "args", None) or ():
        yield from nodes(argument)


def is_grouped(node: Any) -> bool:
    return isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None


def selectors(query: str) -> list[Any]:
    found = [node for node in nodes(promql_parser.parse(query)) if isinstance(node, promql_parser.VectorSelector)]
    assert found, f"nothing is asked for by {query}"
    return found


@pytest.fixture
def page(start: Callable[..., ModelServer], models: Path, monkeypatch: pytest.MonkeyPatch) -> Page:
    """The metrics page of a server that has answered and refused: name -> label -> its values."""
    monkeypatch.setattr("servable.server.skew.INTERVAL_S", 0.05)
    publish_onnx(models / "doubled", 1, tiny_models.double())
    rows = np.random.default_rng(0).random((400, 2)).astype(np.float32)
    save(tiny_models.double(), models / "watched", examples=rows[:8], statistics=rows)
    server = start(max_body_size=1000, batch="on", skew_sample=1.0)
    url = f"http://{server.addresses.rest}"
    with Client(f"grpc://{server.addresses.grpc}") as client:
        for part in np.split(rows, 100):
            client.predict("watched", part)
    assert eventually(lambda: "servable_feature_psi{" in server.metrics())
    predict = f"{url}/v1/models/doubled:predict"
    urllib.request.urlopen(predict, b'{"instances": [[1, 2]]}', timeout=20).close()
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(predict, b" " * 2000, timeout=20)
    refused.value.close()
    with urllib.request.urlopen(f"{url}/metrics", timeout=20) as answer:
        return samples(answer.read().decode())


def samples(text: str) -> Page:
    found: Page = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        name, labels = re.fullmatch(r"([\w:]+)(?:\{(.*)\})? \S+", line).groups()  # type: ignore[union-attr]
        values = found.setdefault(name, {})
        for label, value in re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels or ""):
            values.setdefault(label, set()).add(value)
    return found


def test_every_query_asks_for_metrics_and_labels_that_the_server_has(page: Page) -> None:
    wrong = []
    for where, query in QUERIES.items():
        for selector in selectors(query):
            if selector.name == "up":
                continue
            if selector.name not in page:
                wrong.append(f"{where}: no metric {selector.name}")
                continue
            asked = {matcher.name for matcher in selector.matchers.matchers}
            wrong += [f"{where}: no label {name}" for name in asked - page[selector.name].keys() - FROM_PROMETHEUS]
    assert not wrong


def test_no_query_groups_by_a_label_that_its_metrics_have_not(page: Page) -> None:
    wrong = []
    for where, query in QUERIES.items():
        for node in nodes(promql_parser.parse(query)):
            if not is_grouped(node):
                continue
            names = [part.name for part in nodes(node.expr) if isinstance(part, promql_parser.VectorSelector)]
            known = set().union(*(page[name].keys() for name in names)) | FROM_PROMETHEUS
            wrong += [f"{where}: {label}" for label in node.modifier.labels if label not in known]
    assert not wrong


def test_every_metric_of_our_own_is_on_the_dashboard(page: Page) -> None:
    targets = [target["expr"] for panel in PANELS for target in panel["targets"]]
    shown = {family(selector.name) for query in targets for selector in selectors(without_variables(query))}
    assert {family(name) for name in page if name.startswith("servable_")} <= shown


def family(name: str) -> str:
    """The metric that a sample belongs to."""
    return re.sub(r"_(bucket|sum)$|(?<!request)_count$", "", name)


def test_queries_name_only_states_and_codes_that_exist() -> None:
    names = {*State, *(code.name for code in grpc.StatusCode)}
    for where, query in QUERIES.items():
        for selector in selectors(query):
            for matcher in selector.matchers.matchers:
                if matcher.name in ("state", "code", "status"):
                    assert set(matcher.value.split("|")) <= names, where


def test_panels_lie_beside_and_under_each_other() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        covered = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not covered & cells, panel["title"]
        cells |= covered
    identities = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(identities) == len(set(identities))


def test_legends_and_summaries_use_labels_that_their_queries_leave() -> None:
    texts = [(target["expr"], target["legendFormat"]) for panel in PANELS for target in panel["targets"]]
    texts += [(rule["expr"], " ".join(rule["annotations"].values())) for rule in rules()]
    for query, text in texts:
        expression = promql_parser.parse(without_variables(query))
        groups = [set(node.modifier.labels) for node in nodes(expression) if is_grouped(node)]
        used = set(re.findall(r"\{\{ ?(?:\$labels\.)?(\w+) ?\}\}", text))
        left = set().union(*groups) if groups else FROM_PROMETHEUS
        assert used <= left, (query, text)


def test_the_dashboard_finds_its_data_wherever_it_is_imported() -> None:
    names = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    assert names == {"datasource", "job", "model"}
    for panel in PANELS:
        assert panel["datasource"]["uid"] == "${datasource}"
        used = set(re.findall(r"\$(\w+)", " ".join(target["expr"] for target in panel["targets"])))
        assert used <= names | {"__rate_interval"}


def test_a_model_that_is_asked_for_in_vain_is_what_its_alert_looks_for(
    start: Callable[..., ModelServer], models: Path
) -> None:
    """Its rate is taken of samples of a model that the server knows, under one of the codes of the rule."""
    (models / "broken" / "1").mkdir(parents=True)
    (models / "broken" / "1" / "model.onnx").write_bytes(b"broken")
    server = start(load_retries=0, ready=False)
    url = f"http://{server.addresses.rest}"
    assert eventually(lambda: status(f"{url}/startupz") == 200)
    for name in ("broken", "made-up"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{url}/v1/models/{name}:predict", b'{"instances": [[1, 2]]}', timeout=20)
        refused.value.close()
    [rule] = [rule for rule in rules() if rule["alert"] == "ServableModelMissing"]
    [selector] = selectors(rule["expr"])
    codes = next(matcher.value for matcher in selector.matchers.matchers if matcher.name == "status").split("|")
    assert sum(metric(server, selector.name, model_name="broken", status=code) for code in codes) == 1
    assert metric(server, selector.name, model_name="made-up") == 0


def test_the_scrape_config_reads_the_rules_and_the_page_of_the_server(page: Page) -> None:
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yaml").read_text())
    for name in config["rule_files"]:
        assert (DEPLOY / "prometheus" / name).is_file()
    [job] = config["scrape_configs"]
    assert job["metrics_path"] == "/metrics"
    jobs = {matcher.value for rule in rules() for selector in selectors(rule["expr"])
            for matcher in selector.matchers.matchers if matcher.name == "job"}  # fmt: skip
    assert jobs == {job["job_name"]}
