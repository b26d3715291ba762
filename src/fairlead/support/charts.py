"""Charts as inline SVG: each says its numbers in words too. Colours come from the page's classes."""

from collections.abc import Mapping
from math import pi

from fairlead.support.markup import Markup, element, joined
from fairlead.support.model import Severity

_KEY = {"width": 12, "height": 12, "rx": 3}
_RADIUS, _WIDTH = 70.0, 22
_BAR_H, _ROW_H, _LABEL_W, _BARS_W = 16, 28, 130, 620


def _svg(width: int, height: int, title: str, *children: Markup) -> Markup:
    box = {"viewBox": f"0 0 {width} {height}", "role": "img", "aria-label": title}
    return element("svg", box, element("title", None, title), *children)


def severity_ring(counts: Mapping[Severity, int], names: Mapping[Severity, str], caption: str) -> Markup:
    """A ring with one arc for each severity, the whole in the middle, and a legend."""
    whole = sum(counts.values())
    around = 2 * pi * _RADIUS
    arcs = [_circle("track", around, 0.0, around)]
    start = 0.0
    for severity, count in counts.items():
        if count:
            length = around * count / whole
            arcs.append(_circle(severity.value, length, start, around))
            start += length
    legend = [
        joined(
            element("rect", {"class": severity.value, "x": 210, "y": 30 + row * 28, **_KEY}),
            element("text", {"x": 230, "y": 41 + row * 28}, f"{names[severity]}  {count:,}"),
        )
        for row, (severity, count) in enumerate(counts.items())
    ]  # fmt: skip
    middle = joined(
        element("text", {"class": "big", "x": 100, "y": 104, "text-anchor": "middle"}, f"{whole:,}"),
        element("text", {"class": "soft", "x": 100, "y": 126, "text-anchor": "middle"}, caption),
    )
    said = ", ".join(f"{names[severity]} {count}" for severity, count in counts.items())
    return _svg(340, 200, f"{caption} {whole}: {said}", *arcs, *legend, middle)


def _circle(kind: str, length: float, start: float, around: float) -> Markup:
    return element(
        "circle",
        {
            "class": kind, "cx": 100, "cy": 100, "r": _RADIUS, "stroke-width": _WIDTH,
            "stroke-dasharray": f"{length:.2f} {around:.2f}", "stroke-dashoffset": f"{-start:.2f}",
            "transform": "rotate(-90 100 100)",
        },
    )  # fmt: skip


def severity_bars(
    services: Mapping[str, Mapping[Severity, int]],
    names: Mapping[Severity, str],
    title: str,
    *,
    most: int = 10,
) -> Markup:
    """One stacked bar for each of the `most` services with the most findings."""
    shown = list(services.items())[:most]
    largest = max((sum(counts.values()) for _, counts in shown), default=0)
    rows = []
    for row, (service, counts) in enumerate(shown):
        top = 10 + row * _ROW_H
        x = float(_LABEL_W)
        rows.append(element("text", {"x": _LABEL_W - 10, "y": top + 13, "text-anchor": "end"}, service[:18]))
        for severity, count in counts.items():
            width = (_BARS_W - _LABEL_W - 60) * count / largest
            if count:
                hint = element("title", None, f"{names[severity]} {count}")
                box = {
                    "class": severity.value,
                    "x": f"{x:.1f}",
                    "y": top,
                    "width": f"{max(width, 1):.1f}",
                    "height": _BAR_H,
                }
                rows.append(element("rect", box, hint))
            x += width
        rows.append(
            element(
                "text", {"class": "soft", "x": f"{x + 8:.1f}", "y": top + 13}, f"{sum(counts.values()):,}"
            )
        )
    said = ", ".join(f"{service} {sum(counts.values())}" for service, counts in shown)
    return _svg(_BARS_W, max(len(shown), 1) * _ROW_H + 16, f"{title}: {said or '0'}", *rows)


def change_bar(counts: Mapping[str, int], captions: Mapping[str, str], title: str) -> Markup:
    """One bar parted into the `counts`, keys being classes of the page; a legend below."""
    whole = sum(counts.values()) or 1
    x, parts = 0.0, []
    for kind, count in counts.items():
        width = 960 * count / whole
        if count:
            parts.append(
                element(
                    "rect", {"class": kind, "x": f"{x:.1f}", "y": 4, "width": f"{width:.1f}", "height": 18}
                )
            )
        x += width
    legend = [
        joined(
            element("rect", {"class": kind, "x": 240 * column, "y": 38, "width": 12, "height": 12, "rx": 3}),
            element("text", {"x": 240 * column + 20, "y": 49}, f"{captions[kind]}  {count:,}"),
        )
        for column, (kind, count) in enumerate(counts.items())
    ]
    said = ", ".join(f"{captions[kind]} {count}" for kind, count in counts.items())
    return _svg(960, 56, f"{title}: {said}", *parts, *legend)
