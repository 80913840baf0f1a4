"""What is measured: a table of workloads, each of which says what the client does at each of its points."""

from __future__ import annotations

from . import jobs
from .jobs import KIB, MIB, TIMELINES
from .subjects import DIRECT, LITELLM, NAIVE, PROXY, RELAY, WORKERS
from .workload import BETWEEN, EVERYBODY, Column, Workload

LARGE = {"WSGI_PROXY_MAX_MESSAGE_BYTES": "256MiB", "WSGI_PROXY_TRANSCRIPT_BYTES": "1GiB"}
SOCKETS = {"WSGI_PROXY_WORKER_SOCKETS": "20000"}


FIRST, FIRST_99 = Column("first event p50 ms", "first.p50"), Column("p99 ms", "first.p99")
CPU_TURN, CPU_EVENT = Column("CPU/turn ms", "cpu/turn"), Column("CPU/event µs", "cpu/event")
TURNS, EVENTS = Column("turns/s", "turns/s"), Column("events/s", "events/s")
SLOWEST, WIRE = Column("mean/slowest", "slowest"), Column("bytes/event", "wire/event")
HOLD, WHOLE = Column("loop held ms", "hold.max"), Column("turn p50 ms", "whole.p50")


MODES = {
    "off": {"WSGI_PROXY_TIMELINE": "off"},
    "errors": {"WSGI_PROXY_TIMELINE": "errors"},
    "preview": {"WSGI_PROXY_TIMELINE": "all", "WSGI_PROXY_TIMELINE_PAYLOADS": "preview"},
    "full": {"WSGI_PROXY_TIMELINE": "all", "WSGI_PROXY_TIMELINE_PAYLOADS": "full"},
}

WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload(
            "turns",
            "turns of 28 events without delay, back to back on each connection",
            "connections",
            (1, 16, 64, 256),
            (4,),
            jobs.turns,
            (TURNS, FIRST, FIRST_99, Column("p99.9 ms", "first.p99.9"), CPU_TURN, SLOWEST),
            against=(NAIVE, DIRECT, LITELLM),
            subjects=(*EVERYBODY, LITELLM),
            most={LITELLM: 64},
            longer={LITELLM: 6.0},  # of 64 turns at the same time it ends few in a second
        ),
        Workload(
            "workers",
            "the same on 64 connections, with two workers and with one",
            "workers",
            (1, 2),
            (2,),
            jobs.workers,
            (TURNS, FIRST, FIRST_99, CPU_TURN, SLOWEST),
            against=(),
            base=lambda count: 1,
            base_name="1 worker",
            subjects=(PROXY,),
            settings=lambda count: {WORKERS: str(count)},
        ),
        Workload(
            "burst",
            "turns of 5,008 events, each in a chunk of its own, as fast as they are taken",
            "connections",
            (4,),
            (2,),
            jobs.burst,
            (EVENTS, CPU_EVENT),
            against=(NAIVE, RELAY),
        ),
        Workload(
            "bulk",
            "the same with 50 events in a chunk",
            "connections",
            (4,),
            (2,),
            jobs.bulk,
            (EVENTS, CPU_EVENT),
            against=(NAIVE, RELAY),
        ),
        Workload(
            "paced",
            "50 events a second in each session, each in a packet of its own",
            "sessions",
            (10, 50, 100, 400, 1000),
            (10,),
            jobs.paced,
            (
                CPU_EVENT,
                Column("events/s", "events/s"),
                Column("of those asked for", "delivered"),
                Column("delay p50 ms", "delay.p50"),
                Column("p99 ms", "delay.p99"),
                Column("p99.9 ms", "delay.p99.9"),
                Column("sent late p99 ms", "late.p99"),
            ),
            against=(RELAY, NAIVE),
            most={NAIVE: 400},  # it does not even begin more than some hundred at the same time
            seconds=2.0,
        ),
        Workload(
            "connect",
            "handshakes, each on a new TCP connection; over HTTP, a request for a few bytes",
            "at once",
            (16,),
            (4,),
            jobs.connect,
            (
                Column("handshakes/s", "handshakes/s"),
                Column("CPU each µs", "cpu/handshake"),
                Column("p50 ms", "handshake.p50"),
                Column("p99 ms", "handshake.p99"),
            ),
        ),
        Workload(
            "idle",
            "sessions that do nothing, in one worker that was just started",
            "sessions",
            (100, 1000, 10000),
            (50,),
            jobs.idle,
            (
                Column("KiB each", "bytes", 1 / KIB),
                Column("all MiB", "held", 1 / MIB),
                Column("CPU % of a core", "busy", 100),
            ),
            subjects=(NAIVE, PROXY),
            against=(NAIVE,),
            settings=lambda sessions: SOCKETS,
            seconds=1.0,
            fresh=True,
        ),
        Workload(
            "long",
            "a transcript, and turns that add a KiB to it; who keeps no session is sent all of it each time",
            "bytes",
            (10 * KIB, MIB, 16 * MIB, 64 * MIB),
            (100 * KIB,),
            jobs.transcript,
            (
                CPU_TURN,
                FIRST,
                Column("first turn ms", "begin.first"),
                Column("first turn memory", "begin.memory"),
                Column("memory/transcript", "memory"),
            ),
            against=(RELAY, NAIVE),
            subjects=BETWEEN,
            most={NAIVE: MIB},  # of more a turn takes it many seconds
            seconds=1.0,
            settings=lambda size: LARGE,
            fresh=True,
        ),
        Workload(
            "large-in",
            "turns whose message is as large, in one session; another one asks all the time how long the loop is held",
            "bytes",
            (MIB, 16 * MIB),
            (64 * KIB,),
            jobs.large_in,
            (CPU_TURN, FIRST, HOLD),
            against=(RELAY, NAIVE),
            subjects=BETWEEN,
            most={NAIVE: MIB},  # as above
            settings=lambda size: LARGE,
            seconds=2.0,
        ),
        Workload(
            "large-out",
            "turns with 16 events as large, likewise",
            "bytes",
            (64 * KIB, MIB),
            (64 * KIB,),
            jobs.large_out,
            (CPU_TURN, FIRST, WHOLE, HOLD),
            against=(RELAY, NAIVE),
            subjects=BETWEEN,
            most={NAIVE: 64 * KIB},  # of larger ones an event takes it seconds
            settings=lambda size: LARGE,
            seconds=2.0,
        ),
        Workload(
            "mixed",
            "100 paced sessions, alone (0) and beside others whose messages, events and transcripts are as large",
            "bytes",
            (0, 4 * MIB),
            (100 * KIB,),
            lambda size: {**jobs.paced(100), "settle": 1.0},
            (
                Column("delay p99 ms", "delay.p99"),
                Column("p50 ms", "delay.p50"),
                Column("p99.9 ms", "delay.p99.9"),
                Column("longest ms", "delay.max"),
                CPU_EVENT,
            ),
            settings=lambda size: LARGE,
            against=(RELAY, NAIVE),
            subjects=BETWEEN,
            most={NAIVE: 0},  # beside others it delivers nothing at all for as long as they talk
            beside=jobs.disturbance,
            seconds=3.0,
        ),
        Workload(
            "timeline",
            "events as in burst, bulk and paced (on 100 sessions), with timelines that are written",
            "timeline",
            (*range(len(TIMELINES)),),
            (len(TIMELINES) - 1,),
            jobs.timeline,
            (CPU_EVENT, EVENTS),
            against=(),
            base=lambda point: point // len(MODES) * len(MODES),
            base_name="off",
            labels={point: f"{shape}, {mode}" for point, (shape, mode) in enumerate(TIMELINES)},
            subjects=(PROXY,),
            seconds=1.0,
            settings=lambda point: MODES[TIMELINES[point].mode],
        ),
        Workload(
            "deflate",
            "50 events a second in each of 100 sessions, to clients that offer permessage-deflate",
            "compression",
            (0, 1),
            (1,),
            jobs.deflate,
            (WIRE, CPU_EVENT, Column("delay p50 ms", "delay.p50"), Column("p99 ms", "delay.p99")),
            against=(),
            base=lambda point: 0,
            base_name="off",
            labels={0: "off", 1: "on"},
            subjects=(PROXY,),
            settings=lambda on: {"WSGI_PROXY_COMPRESSION": "true"} if on else {},
        ),
    )
}
