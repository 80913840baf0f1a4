"""A dashboard for Grafana: rows of panels over the metrics that `/metrics` tells."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

# Of Grafana 12; older ones migrate nothing that is used here, and newer ones migrate by themselves.
SCHEMA_VERSION = 41
COLUMNS, HEIGHT, STAT_HEIGHT = 24, 8, 4
DATA_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
QUANTILES = (0.5, 0.95, 0.99)
MODEL = "gen_ai_request_model"
HOW = "Print with `wsgi-proxy print grafana`; import in Grafana under Dashboards, New, Import."


class Query(NamedTuple):
    """An expression of Prometheus, and what its lines are called."""

    expression: str
    legend: str


class Panel(NamedTuple):
    """
    A panel.

    Args:
        title: What it shows.
        queries: Of which each makes lines.
        unit: As Grafana names it.
        text: What to know about it.
        width: Of the 24 columns.
        stat: Whether it shows the newest number only.
    """

    title: str
    queries: Sequence[Query]
    unit: str = "short"
    text: str = ""
    width: int = 8
    stat: bool = False


def _of(name: str, labels: str = "") -> str:
    return f'{name}{{instance=~"$instance"{labels}}}'


def now(name: str, by: str = "") -> Query:
    """Return the sum of a gauge over all workers and instances."""
    return Query(f"sum{_by(by)} ({_of(name)})", _legend(by) or "now")


def rate(name: str, by: str = "", labels: str = "", legend: str = "per second") -> Query:
    """Return how fast a counter grows."""
    return Query(f"sum{_by(by)} (rate({_of(name, labels)}[$__rate_interval]))", _legend(by) or legend)


def quantiles(name: str, labels: str = "") -> list[Query]:
    """Return what most observations are below."""
    buckets = f"sum by (le) (rate({_of(f'{name}_bucket', labels)}[$__rate_interval]))"
    return [Query(f"histogram_quantile({share}, {buckets})", f"p{share * 100:g}") for share in QUANTILES]


def _by(labels: str) -> str:
    return f" by ({labels})" if labels else ""


def _legend(labels: str) -> str:
    return " ".join(f"{{{{{label.strip()}}}}}" for label in labels.split(",") if label)


FAILED = rate("wsgi_proxy_turns_total", labels=', outcome="failed"').expression
ENDED = rate("wsgi_proxy_turns_total").expression

ROWS: dict[str, Sequence[Panel]] = {
    "Traffic": (
        Panel("Sessions open", [now("wsgi_proxy_sessions_open")], width=6, stat=True),
        Panel("Turns in flight", [now("wsgi_proxy_turns_in_flight")], width=6, stat=True),
        Panel("Turns begun", [rate("wsgi_proxy_turns_begun_total")], "ops", width=6, stat=True),
        Panel("Workers", [now("wsgi_proxy_workers", "state")], width=6, stat=True),
        Panel("Turns by outcome", [rate("wsgi_proxy_turns_total", "outcome")], "ops"),
        Panel("Sessions opened by dialect", [rate("wsgi_proxy_sessions_total", "dialect")], "ops"),
        Panel("Turns by transport", [rate("wsgi_proxy_turns_begun_total", "transport")], "ops"),
        Panel("Tokens", [rate("gen_ai_client_token_usage_sum", "gen_ai_token_type")], "short", "In a second."),
        Panel("Turns by model", [rate("gen_ai_client_operation_duration_seconds_count", MODEL)], "ops"),
        Panel("HTTP requests", [rate("wsgi_proxy_http_requests_total", "route, status_class")], "reqps"),
        Panel(
            "Bytes of clients",
            [rate("wsgi_proxy_client_bytes_total", "direction"), rate("wsgi_proxy_saved_bytes_total", legend="saved")],
            "Bps",
            "Saved is what clients did not have to send, because the proxy has it already.",
        ),
        Panel("Bytes of upstreams", [rate("wsgi_proxy_upstream_bytes_total", "direction")], "Bps"),
        Panel(
            "Messages, frames and events",
            [
                rate("wsgi_proxy_client_messages_total", "direction"),
                rate("wsgi_proxy_upstream_events_total", legend="events of upstreams"),
            ],
            "ops",
        ),
    ),
    "Latency": (
        Panel("Time to first token", quantiles("gen_ai_server_time_to_first_token_seconds"), "s"),
        Panel("Time per output token", quantiles("gen_ai_server_time_per_output_token_seconds"), "s"),
        Panel("Duration of turns", quantiles("gen_ai_client_operation_duration_seconds"), "s"),
        Panel("Waiting for the lane", quantiles("wsgi_proxy_queue_seconds"), "s"),
        Panel(
            "Overhead of requests",
            quantiles("wsgi_proxy_request_overhead_seconds"),
            "s",
            "From the beginning of a turn until its request is ready to go out.",
        ),
        Panel(
            "Overhead of events",
            quantiles("wsgi_proxy_event_overhead_seconds"),
            "s",
            "From a chunk until its frames are sent, slow clients included; the mean of each turn.",
        ),
    ),
    "Errors": (
        Panel("Errors by type", [rate("wsgi_proxy_errors_total", "error_type")], "ops"),
        Panel("Share of turns that failed", [Query(f"{FAILED} / {ENDED}", "failed")], "percentunit"),
        Panel("Upgrades refused", [rate("wsgi_proxy_upgrades_refused_total", "status")], "ops"),
    ),
    "Credentials": (
        Panel("Turns by credential", [rate("wsgi_proxy_turns_total", "credential")], "ops"),
        Panel("Attempts by credential", [rate("wsgi_proxy_attempts_total", "credential")], "ops"),
        Panel("Attempts that failed", [rate("wsgi_proxy_attempts_failed_total", "credential, fault")], "ops"),
        Panel("Failovers", [rate("wsgi_proxy_failovers_total", "credential, fault")], "ops"),
        Panel("Rests begun", [rate("wsgi_proxy_rests_total", "credential, fault")], "ops"),
        Panel(
            "Rests that run",
            [Query(f"max by (credential, fault) ({_of('wsgi_proxy_rest_seconds')}) > 0", "{{credential}} {{fault}}")],
            "s",
            "How long the last of them still lasts.",
        ),
    ),
    "Resources": (
        Panel("Resident memory of workers", [now("wsgi_proxy_resident_memory_bytes", "instance")], "bytes"),
        Panel("Held by sessions", [now("wsgi_proxy_transcript_bytes", "instance")], "bytes"),
        Panel("Workers by state", [now("wsgi_proxy_workers", "state")]),
        Panel("Event loop held up", [rate("wsgi_proxy_loop_held_up_total", "instance")], "ops"),
        Panel("Time held up", [rate("wsgi_proxy_loop_held_up_seconds_total", "instance")], "percentunit"),
        Panel("Versions", [Query(f"count by (version) ({_of('wsgi_proxy_build_info')})", "{{version}}")]),
    ),
}


def dashboard() -> str:
    """Return the dashboard as JSON."""
    built = {
        "uid": "wsgi-proxy",
        "title": "wsgi-proxy",
        "description": HOW,
        "tags": ["wsgi-proxy"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "graphTooltip": 1,  # the same moment in all panels
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_data_source(), _instance()]},
        "panels": list(_placed()),
    }
    return json.dumps(built, indent=2) + "\n"


def _data_source() -> dict[str, Any]:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}


def _instance() -> dict[str, Any]:
    query = "label_values(wsgi_proxy_build_info, instance)"
    return {
        "name": "instance",
        "label": "Instance",
        "type": "query",
        "datasource": DATA_SOURCE,
        "definition": query,
        "query": {"qryType": 1, "query": query, "refId": "instances"},
        "refresh": 2,  # when the range of time changes
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _placed() -> Iterator[dict[str, Any]]:
    """Yield the panels of all rows, from left to right and from top to bottom."""
    number, top = 0, 0
    for title, panels in ROWS.items():
        number += 1
        yield {"id": number, "type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": _at(0, top)}
        left, top, height = 0, top + 1, 0
        for panel in panels:
            if left + panel.width > COLUMNS:
                left, top = 0, top + height
            height = STAT_HEIGHT if panel.stat else HEIGHT
            number += 1
            yield {"id": number, "gridPos": _at(left, top, panel.width, height), **_drawn(panel)}
            left += panel.width
        top += height


def _at(left: int, top: int, width: int = COLUMNS, height: int = 1) -> dict[str, int]:
    return {"x": left, "y": top, "w": width, "h": height}


def _drawn(panel: Panel) -> dict[str, Any]:
    targets = [
        {"refId": chr(ord("A") + at), "datasource": DATA_SOURCE, "expr": query.expression, "legendFormat": query.legend}
        for at, query in enumerate(panel.queries)
    ]
    options: dict[str, Any] = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}
    if panel.stat:
        options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "graphMode": "area", "textMode": "auto"}
    return {
        "type": "stat" if panel.stat else "timeseries",
        "title": panel.title,
        "description": panel.text,
        "datasource": DATA_SOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": options,
    }
