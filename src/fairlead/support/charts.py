"""Charts as inline SVG: each says its numbers in words too. Colours come from the page's classes."""

from collections.abc import Collection, Mapping
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
    return ring(
        {severity.value: count for severity, count in counts.items()},
        {severity.value: name for severity, name in names.items()},
        caption,
    )


def ring(
    counts: Mapping[str, int], names: Mapping[str, str], caption: str, *, partly: Collection[str] = ()
) -> Markup:
    """A ring with one arc for each of `counts`, keys being classes of the page; the whole, and a legend.

    Of the kinds in `partly` there may be more: they stand as "3+", and as "?" where none was found.
    """
    shown = {kind: _count(count, kind in partly) for kind, count in counts.items()}
    whole = sum(counts.values())
    around = 2 * pi * _RADIUS
    arcs = [_circle("track", around, 0.0, around)]
    start = 0.0
    for kind, count in counts.items():
        if count:
            length = around * count / whole
            arcs.append(_circle(kind, length, start, around))
            start += length
    legend = [
        joined(
            element("rect", {"class": kind, "x": 210, "y": 30 + row * 28, **_KEY}),
            element("text", {"x": 230, "y": 41 + row * 28}, f"{names[kind]}  {shown[kind]}"),
        )
        for row, kind in enumerate(counts)
    ]  # fmt: skip
    middle = joined(
        element(
            "text", {"class": "big", "x": 100, "y": 104, "text-anchor": "middle"}, _count(whole, bool(partly))
        ),
        element("text", {"class": "soft", "x": 100, "y": 126, "text-anchor": "middle"}, caption),
    )
    said = ", ".join(f"{names[kind]} {text}" for kind, text in shown.items())
    return _svg(340, 200, f"{caption} {_count(whole, bool(partly))}: {said}", *arcs, *legend, middle)


def _count(count: int, partly: bool) -> str:
    return f"{count:,}" if not partly else f"{count:,}+" if count else "?"


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


def rate_bar(share: float | None, kind: str, title: str) -> Markup:
    """A bar filled to `share` (0 to 1; None: empty) in the page's class `kind`; as wide as its place."""
    parts = [element("rect", {"class": "track", "width": 100, "height": 8})]
    if share:
        parts.append(element("rect", {"class": kind, "width": f"{100 * share:.1f}", "height": 8}))
    box = {
        "class": "bar", "viewBox": "0 0 100 8", "preserveAspectRatio": "none", "role": "img",
        "aria-label": title,
    }  # fmt: skip
    return element("svg", box, element("title", None, title), *parts)


def day_columns(days: Mapping[str, Mapping[str, int]], names: Mapping[str, str], title: str) -> Markup:
    """A stacked column for each day; keys of its counts are classes of the page. Every fifth day is named."""
    wide, high, foot = 960, 120, 22
    largest = max((sum(counts.values()) for counts in days.values()), default=0) or 1
    step = wide / max(len(days), 1)
    parts = [element("rect", {"class": "track", "x": 0, "y": high, "width": wide, "height": 1})]
    for column, (day, counts) in enumerate(days.items()):
        top = float(high)
        for kind, count in counts.items():
            tall = (high - 16) * count / largest
            top -= tall
            if count:
                place = {
                    "x": f"{column * step + step * 0.15:.1f}",
                    "y": f"{top:.1f}",
                    "height": f"{tall:.1f}",
                }
                hint = element("title", None, f"{day}: {names[kind]} {count}")
                parts.append(element("rect", {"class": kind, "width": f"{step * 0.7:.1f}", **place}, hint))
        middle = {"x": f"{(column + 0.5) * step:.1f}", "text-anchor": "middle"}
        if whole := sum(counts.values()):
            parts.append(element("text", {"y": f"{top - 4:.1f}", **middle}, str(whole)))
        if column % 5 == 0 or column == len(days) - 1:
            parts.append(element("text", {"class": "soft", "y": high + foot - 4, **middle}, day))
    said = ", ".join(f"{day} {sum(counts.values())}" for day, counts in days.items() if sum(counts.values()))
    return _svg(wide, high + foot, f"{title}: {said or '0'}", *parts)
