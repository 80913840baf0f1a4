"""Pools of credentials in memory: a clock and alarms that a test moves by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wsgi_proxy.protocol.failure import Failure, Fault
from wsgi_proxy.settings import Settings, UpstreamSettings
from wsgi_proxy.upstream.credentials import Credential, Credentials


class Clock:
    """Monotonic seconds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Alarm:
    """One call that was asked for."""

    def __init__(self, seconds: float, call: Callable[[], None]) -> None:
        self.seconds = seconds
        self.killed = False
        self.fired = False
        self._call = call

    def kill(self, *, block: bool) -> None:
        assert not block, "it would wait for itself"
        self.killed = True

    def fire(self) -> None:
        assert not self.killed
        self.fired = True
        self._call()


class Alarms(list[Alarm]):
    """What calls later; given as `schedule`."""

    def __call__(self, seconds: float, call: Callable[[], None]) -> Alarm:
        self.append(Alarm(seconds, call))
        return self[-1]

    @property
    def pending(self) -> list[Alarm]:
        return [alarm for alarm in self if not (alarm.killed or alarm.fired)]


def upstream(name: str, **changes: Any) -> UpstreamSettings:
    """Return an upstream with one key."""
    return UpstreamSettings(name, f"http://{name}.test/v1", **{"api_keys": ("secret",), **changes})


def pool(*upstreams: UpstreamSettings, clock: Clock | None = None, **settings: Any) -> Credentials:
    return Credentials(Settings(upstreams=upstreams, **settings), clock or Clock())


def by_name(credentials: Credentials) -> dict[str, Credential]:
    return {credential.name: credential for credential in credentials.all}


def failure(fault: Fault, retry_after: float | None = None, words: str = "no") -> Failure:
    return Failure(fault, words, retry_after)
