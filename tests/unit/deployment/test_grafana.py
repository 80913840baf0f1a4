"""The dashboard, which Grafana has to import, and whose queries Prometheus has to understand."""

from __future__ import annotations

import importlib.util
import itertools
import json
import re
from typing import Any

import pytest

from wsgi_proxy.observe.instruments import INSTRUMENTS, name_of

from .printing import printed

VARIABLES = {"$__rate_interval": "5m", "$instance": ".*"}
FUNCTIONS = {"sum", "max", "count", "rate", "histogram_quantile", "by"}
GIVEN = {"instance", "le"}  # labels that Prometheus gives, or a histogram has
SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}
NAMES = {
    f"{name_of(metric)}{suffix}": set(metric._labelnames) | GIVEN
    for metric in INSTRUMENTS
    for suffix in SUFFIXES[metric._type or ""]
}


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    return json.loads(printed("grafana"))


@pytest.fixture(scope="module")
def expressions(dashboard: dict[str, Any]) -> list[str]:
    """All queries, with values in the place of Grafana's variables."""
    found = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    for variable, value in VARIABLES.items():
        found = [expression.replace(variable, value) for expression in found]
    assert len(found) > 40
    return found


def test_rows_and_variables(dashboard: dict[str, Any]) -> None:
    """Where the data comes from can be chosen, and every panel takes it from there."""
    titles = [panel["title"] for panel in dashboard["panels"] if panel["type"] == "row"]
    assert ["Traffic", "Latency", "Errors", "Credentials", "Resources"] == titles
    variables = {variable["name"]: variable["type"] for variable in dashboard["templating"]["list"]}
    assert {"datasource": "datasource", "instance": "query"} == variables
    sources = [panel["datasource"] for panel in dashboard["panels"] if panel["type"] != "row"]
    assert all({"type": "prometheus", "uid": "${datasource}"} == source for source in sources)


def test_panels_do_not_overlap(dashboard: dict[str, Any]) -> None:
    """Each has a place of its own in the 24 columns, and a number."""
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        place = set(itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])))
        assert set() == place & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= place
    assert len(dashboard["panels"]) == len({panel["id"] for panel in dashboard["panels"]})


def test_every_metric_is_told_and_has_the_labels(expressions: list[str], dashboard: dict[str, Any]) -> None:
    """And every legend names labels that its query keeps."""
    for expression in expressions:
        words = set(re.findall(r"[a-z_]{2,}", re.sub(r'"[^"]*"|\[.*?\]', "", expression)))
        metrics = words & set(NAMES)
        assert metrics, expression
        known = set.intersection(*(NAMES[name] for name in metrics))
        assert set() == words - metrics - FUNCTIONS - known, expression
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            named = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            kept = {word for group in re.findall(r"by \(([^)]*)\)", target["expr"]) for word in group.split(", ")}
            assert set() == named - kept, target


def test_every_metric_is_shown(expressions: list[str]) -> None:
    """A metric that nobody looks at would not have to be counted."""
    shown = {word for expression in expressions for word in re.findall(r"\w+", expression)}
    missing = {name_of(metric) for metric in INSTRUMENTS} - {re.sub("_(bucket|sum|count)$", "", name) for name in shown}
    assert set() == missing


def test_expressions_are_well_formed(expressions: list[str]) -> None:
    """Brackets are closed in the order in which they were opened, and so are quotes."""
    for expression in expressions:
        bare = re.sub(r'"[^"]*"', "", expression)
        assert '"' not in bare, expression
        open_brackets = []
        for character in bare:
            if character in "([{":
                open_brackets.append(character)
            elif character in ")]}":
                assert "([{"[")]}".index(character)] == open_brackets.pop(), expression
        assert [] == open_brackets, expression


@pytest.mark.skipif(not importlib.util.find_spec("promql_parser"), reason="promql-parser is not installed")
def test_expressions_parse(expressions: list[str]) -> None:
    """By Prometheus' own grammar, where a parser of it is installed."""
    parser = importlib.import_module("promql_parser")
    for expression in expressions:
        parser.parse(expression)
