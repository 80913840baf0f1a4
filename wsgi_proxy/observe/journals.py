"""Which journals a worker's sessions have."""

from __future__ import annotations

from ..settings import Settings
from .journal import SILENT, Journal, together
from .previews import previews
from .timelines.failures import FailureTimeline
from .timelines.writer import Timeline, Timelines


class Journals:
    """
    Makes the journal of each session.

    Args:
        settings: Whether there are timelines.

    Attributes:
        timelines: None if there are none.
    """

    def __init__(self, settings: Settings) -> None:
        self.timelines = None if settings.timeline == "off" else Timelines(settings)
        self._kind = FailureTimeline if settings.timeline == "errors" else Timeline

    def __call__(self) -> Journal:
        """Return the journal of a new session; `SILENT` if nobody wants to know."""
        return together(previews(), self._kind(self.timelines) if self.timelines else SILENT)
