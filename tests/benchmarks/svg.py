"""Pictures of lines, as SVG that needs no other program, and that can be read on a light and on a dark page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 640, 412
LEFT, RIGHT, TOP, BOTTOM = 64, 616, 64, 340
COLOURS = {"direct": "#8a8f98", "relay": "#c77d1e", "naive": "#c2453f", "proxy": "#2f7ed8", "litellm": "#9a6bdc"}
DASHES = ("", "7 4", "2 4")
STYLE = """
  .paper { fill: #ffffff } text { fill: #24292f; font: 12px system-ui, sans-serif }
  .title { font-size: 15px; font-weight: 600 } .grid { stroke: #d8dee4 } .line { fill: none; stroke-width: 2 }
  @media (prefers-color-scheme: dark) {
    .paper { fill: #0d1117 } text { fill: #e6edf3 } .grid { stroke: #30363d }
  }
"""
Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """
    A line of a figure.

    Attributes:
        subject: Decides the colour.
        label: For the legend.
        points: Rising in x.
        dash: Which of `DASHES`.
    """

    subject: str
    label: str
    points: Sequence[Point]
    dash: int = 0


def drawn(title: str, x_axis: str, y_axis: str, lines: Sequence[Line]) -> str:
    """Return a picture of lines; both axes are logarithmic."""
    across = Scale([x for line in lines for x, _ in line.points], LEFT, RIGHT)
    up = Scale([y for line in lines for _, y in line.points], BOTTOM, TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{escape(title)}</title><style>{STYLE}</style>",
        f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}" rx="6"/>',
        text(LEFT, 24, title, css="title"),
        text(LEFT - 8, TOP - 12, y_axis, anchor="end"),
        text(RIGHT, BOTTOM + 38, x_axis, anchor="end"),
        *(f'<path class="grid" d="M{LEFT} {up(y):.1f}H{RIGHT}"/>' for y in up.ticks),
        *(text(LEFT - 8, up(y) + 4, short(y), anchor="end") for y in up.ticks),
        *(f'<path class="grid" d="M{across(x):.1f} {TOP}V{BOTTOM}"/>' for x in across.ticks),
        *(text(across(x), BOTTOM + 18, short(x), anchor="middle") for x in across.ticks),
    ]
    for number, line in enumerate(lines):
        path = "L".join(f"{across(x):.1f} {up(y):.1f}" for x, y in line.points)
        look = f'stroke="{COLOURS[line.subject]}" stroke-dasharray="{DASHES[line.dash]}"'
        at = LEFT + number * (RIGHT - LEFT) // max(len(lines), 4)
        parts += [
            f'<path class="line" {look} d="M{path}"/>',
            *(
                f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="2.5" fill="{COLOURS[line.subject]}"/>'
                for x, y in line.points
            ),
            f'<path class="line" {look} d="M{at} {HEIGHT - 14}h18"/>',
            text(at + 22, HEIGHT - 10, line.label),
        ]
    return "\n".join((*parts, "</svg>", ""))


class Scale:
    """
    A logarithmic axis.

    Args:
        values: What has to have a place on it.
        start, end: Where it begins and ends in the picture.

    Attributes:
        ticks: Round numbers on it.
    """

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        low, high = min(values), max(values)
        self._start, self._end = start, end
        self._low = math.log10(low / 1.15)
        self._span = math.log10(high * 1.15) - self._low
        powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
        steps = (1, 2, 5) if self._span < 2.5 else (1,)
        self.ticks = [
            step * 10.0**power for power in powers for step in steps if low / 1.15 <= step * 10.0**power <= high * 1.15
        ]

    def __call__(self, value: float) -> float:
        return self._start + (math.log10(value) - self._low) / self._span * (self._end - self._start)


def text(x: float, y: float, words: str, *, anchor: str = "start", css: str = "") -> str:
    return f'<text class="{css}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def short(value: float) -> str:
    """Return a number in few characters: 200, 5k, 10M."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"
