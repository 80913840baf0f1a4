"""What the client does at a point of each workload; see `load` for what a job is."""

from __future__ import annotations

from typing import NamedTuple

from .answers import Plan
from .workload import Job

KIB, MIB = 2**10, 2**20


class Timeline(NamedTuple):
    """How events come, and which timelines are written."""

    shape: str
    mode: str


TIMELINES = [
    Timeline(shape, mode) for shape in ("burst", "bulk", "paced") for mode in ("off", "errors", "preview", "full")
]


def turns(connections: int) -> Job:
    return {"load": "turns", "sessions": connections}


def burst(connections: int) -> Job:
    return {"load": "turns", "sessions": connections, "plan": Plan(deltas=5000).model}


def bulk(connections: int) -> Job:
    return {"load": "turns", "sessions": connections, "plan": Plan(deltas=5000, together=50).model}


def paced(sessions: int) -> Job:
    return {"load": "paced", "sessions": sessions, "plan": Plan(rate=50).model}


def connect(at_once: int) -> Job:
    return {"load": "connect", "sessions": at_once}


def idle(sessions: int) -> Job:
    return {"load": "idle", "sessions": sessions}


def transcript(size: int) -> Job:
    return {"load": "transcript", "input": size}


def large_in(size: int) -> Job:
    return {"load": "turns", "input": size, "probe": True}


def large_out(size: int) -> Job:
    return {"load": "turns", "plan": Plan(deltas=16, size=size).model, "probe": True}


def disturbance(size: int) -> list[Job]:
    """What hurts: a long conversation, large messages and large events, some of each in a second."""
    jobs = [
        {"input": size, "pause": 0.25},
        {"input": size, "pause": 0.5, "keeps": False},
        {"input": KIB, "pause": 0.5, "plan": Plan(deltas=8, size=size // 4).model},
    ]
    return [{"load": "transcript", "seconds": 1e6, **job} for job in jobs] if size else []


def workers(count: int) -> Job:
    return turns(64)


def deflate(on: int) -> Job:
    return {**paced(100), "deflate": bool(on)}


def timeline(point: int) -> Job:
    """What is measured with timelines: a thousand deltas, each in a chunk of its own or 50 together, or paced ones."""
    shapes = {
        "burst": {"load": "turns", "sessions": 4, "plan": Plan(deltas=1000).model},
        "bulk": {"load": "turns", "sessions": 4, "plan": Plan(deltas=1000, together=50).model},
        "paced": paced(100),
    }
    return shapes[TIMELINES[point].shape]
