"""Pictures of doses and logs as PNG: slices with colour wash, and charts. Drawn with Pillow."""

import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from fairlead.cases.model import Dose, Floats, LayerDeviation, Volume

Colour = tuple[int, int, int]
INK: Colour = (31, 41, 55)
FAINT: Colour = (107, 114, 128)
RULE: Colour = (226, 232, 240)
PAPER: Colour = (255, 255, 255)
PLANNED: Colour = (37, 99, 235)
DELIVERED: Colour = (234, 88, 12)
GOOD: Colour = (22, 128, 92)
BAD: Colour = (200, 30, 40)
_DENSITY = 2  # output pixels per pixel of the page
_SIDE = 400.0  # page pixels of a slice's longer side
_STEPS = 1024  # of a colour scale
_GREY_AT: tuple[list[float], list[float]] = ([-1000, -300, 300, 1200], [0, 70, 190, 255])  # HU → grey
# Small files for little work; a higher level takes twice as long and saves a fifth.
_COMPRESSION = 2
Packed = npt.NDArray[np.uint32]  # red, green, blue and nothing, a byte each, the lowest first

DOSE_COLOURS = (
    (30, 27, 110),
    (37, 99, 205),
    (20, 165, 190),
    (60, 190, 100),
    (220, 205, 50),
    (240, 140, 30),
    (200, 25, 35),
)
DIFFERENCE_COLOURS = ((30, 70, 180), (120, 165, 230), (246, 246, 246), (240, 150, 120), (180, 25, 40))
# Up to 1 (half of the scale) passes and stays cool; above it burns.
GAMMA_COLOURS = ((18, 60, 110), (60, 130, 170), (175, 215, 215), (250, 190, 90), (225, 85, 40), (150, 10, 30))


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def colours_of(share: Floats, stops: Sequence[Colour]) -> npt.NDArray[np.float64]:
    """Colours (…, 3) for shares 0 … 1 of a scale with evenly spaced `stops`."""
    places = np.linspace(0.0, 1.0, len(stops))
    table = np.array(stops, dtype=np.float64)
    return np.stack([np.interp(share, places, table[:, channel]) for channel in range(3)], axis=-1)


@cache
def _table(stops: tuple[Colour, ...], opacity: float) -> Packed:
    """The scale in _STEPS colours, each darkened to its share of a blend."""
    colours = np.rint(opacity * colours_of(np.linspace(0.0, 1.0, _STEPS), stops)).astype(np.uint32)
    return np.asarray(colours @ np.array([1, 1 << 8, 1 << 16], dtype=np.uint32), dtype=np.uint32)


@cache
def _greys() -> npt.NDArray[np.uint8]:
    """Grey for every whole HU from the first to the last of _GREY_AT."""
    low, high = int(_GREY_AT[0][0]), int(_GREY_AT[0][-1])
    return np.rint(np.interp(np.arange(low, high + 1), *_GREY_AT)).astype(np.uint8)


class Figure:
    """A sheet of paper with a title; lengths are page pixels."""

    def __init__(self, width: int, height: int, title: str, subtitle: str = "") -> None:
        self._k = _DENSITY  # pixels drawn per page pixel
        self._corner = (0.0, 0.0)  # of what is drawn on
        self._image = Image.new("RGB", (width * self._k, height * self._k), PAPER)
        self._draw = ImageDraw.Draw(self._image)
        self.text((16, 12), title, size=16)
        if subtitle:
            self.text((16, 34), subtitle, size=12, colour=FAINT)

    def text(
        self, at: tuple[float, float], words: str, *, size: int = 12, colour: Colour = INK, anchor: str = "la"
    ) -> None:
        """Write `words`; `anchor` as Pillow has it (first letter horizontal, second vertical)."""
        self._draw.text(self._place(at), words, font=_font(size * self._k), fill=colour, anchor=anchor)

    def width_of(self, words: str, *, size: int) -> float:
        """Page pixels that `words` take."""
        return float(self._draw.textlength(words, font=_font(size * self._k))) / self._k

    def line(self, points: Sequence[tuple[float, float]], colour: Colour, width: float = 1.0) -> None:
        """A line through `points`."""
        self._draw.line(
            [self._place(at) for at in points],
            fill=colour,
            width=max(1, round(width * self._k)),
            joint="curve",
        )

    def box(
        self,
        corners: tuple[float, float, float, float],
        *,
        fill: Colour | None = None,
        outline: Colour | None = None,
    ) -> None:
        """A rectangle left, top, right, bottom."""
        (left, top), (right, bottom) = self._place(corners[:2]), self._place(corners[2:])
        if right >= left and bottom >= top:
            self._draw.rectangle((left, top, right, bottom), fill=fill, outline=outline, width=self._k // 2)

    def dot(self, at: tuple[float, float], radius: float, colour: Colour) -> None:
        """A filled circle."""
        (x, y), r = self._place(at), radius * self._k
        self._draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)

    def picture(self, pixels: Packed, at: tuple[float, float]) -> None:
        """Put a picture of output pixels with its top left corner at `at`."""
        size = (pixels.shape[1], pixels.shape[0])
        data = pixels.astype("<u4").tobytes()
        left, top = self._place(at)
        self._image.paste(Image.frombuffer("RGB", size, data, "raw", "RGBX", 0, 1), (round(left), round(top)))

    @contextmanager
    def smooth(self, frame: tuple[float, float, float, float]) -> Iterator[None]:
        """What is drawn inside of `frame` in the block is smooth, however it slants: it is drawn on twice as
        many pixels and scaled down, which would be slow for the whole sheet.
        """
        image, draw = self._image, self._draw
        left, top, right, bottom = (round(value * _DENSITY) for value in frame)
        size = (2 * (right - left), 2 * (bottom - top))
        larger = image.crop((left, top, right, bottom)).resize(size, Image.Resampling.NEAREST)
        self._image, self._draw = larger, ImageDraw.Draw(larger)
        self._k, self._corner = 2 * _DENSITY, (left / _DENSITY, top / _DENSITY)
        try:
            yield
        finally:
            self._image, self._draw = image, draw
            self._k, self._corner = _DENSITY, (0.0, 0.0)
        image.paste(larger.reduce(2), (left, top))

    def _place(self, at: tuple[float, float]) -> tuple[float, float]:
        return (at[0] - self._corner[0]) * self._k, (at[1] - self._corner[1]) * self._k

    def pixels_of(self, length: float) -> int:
        """Output pixels in `length`."""
        return round(length * _DENSITY)

    def png(self) -> bytes:
        """The sheet as a PNG file."""
        return _encoded(np.asarray(self._image))


def _encoded(pixels: npt.NDArray[np.uint8]) -> bytes:
    """A PNG file of `pixels` (rows, columns, 3), every row as its difference to the one above.

    That suits these pictures, and takes half the time of trying all filters on every row, as Pillow does.
    """
    rows, columns, _ = pixels.shape
    flat = pixels.reshape(rows, 3 * columns)
    filtered = np.empty((rows, 3 * columns + 1), dtype=np.uint8)
    filtered[:, 0] = 2  # "Up"
    filtered[0, 1:] = flat[0]
    np.subtract(flat[1:], flat[:-1], out=filtered[1:, 1:])
    header = struct.pack(">IIBBBBB", columns, rows, 8, 2, 0, 0, 0)  # 8 bits of red, green and blue
    content = zlib.compress(filtered.data, _COMPRESSION)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
        for kind, data in ((b"IHDR", header), (b"IDAT", content), (b"IEND", b""))
    )


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers from `low` to `high`, about so many."""
    raw = max((high - low) / max(about, 1), 1e-12)
    power = 10.0 ** np.floor(np.log10(raw))
    step = power * min((1, 2, 2.5, 5, 10), key=lambda factor: abs(factor * power - raw))
    first = np.ceil(low / step - 1e-9)
    # Adding 0.0 turns -0.0 into 0.0.
    return [float(step * number) + 0.0 for number in np.arange(first, np.floor(high / step + 1e-9) + 1)]


@dataclass(frozen=True, slots=True)
class Slice:
    """One plane through a volume; rows run downwards on the page."""

    values: Dose  # (rows, columns)
    across_mm: Floats
    down_mm: Floats
    names: tuple[str, str]


def axial(volume: Volume, z_mm: float) -> Slice:
    """The plane across the patient nearest to `z_mm`, seen from the feet."""
    index = int(np.abs(volume.grid.axis_mm(2) - z_mm).argmin())
    return Slice(
        volume.values[index], volume.grid.axis_mm(0), volume.grid.axis_mm(1), ("x (left) mm", "y (back) mm")
    )


def coronal(volume: Volume, y_mm: float) -> Slice:
    """The plane from left to right nearest to `y_mm`, head up, seen from the front."""
    index = int(np.abs(volume.grid.axis_mm(1) - y_mm).argmin())
    down = -volume.grid.axis_mm(2)[::-1]
    return Slice(volume.values[::-1, index], volume.grid.axis_mm(0), down, ("x (left) mm", "-z (feet) mm"))


@dataclass(frozen=True, slots=True)
class Wash:
    """How values are coloured over the CT."""

    low: float
    high: float
    colours: Sequence[Colour]
    unit: str
    hidden_below: float = -np.inf  # values below are not drawn
    lines: tuple[float, ...] = ()  # isolines
    opacity: float = 0.72


@dataclass(frozen=True, slots=True)
class Ground:
    """A plane of the CT, ready for every picture that lies on it."""

    ct: Slice
    scale: float  # page pixels per mm
    grey: npt.NDArray[np.uint8]  # output pixels


def ground(ct: Slice) -> Ground:
    """The plane in grey."""
    scale = _SIDE / max(ct.across_mm[-1] - ct.across_mm[0], ct.down_mm[-1] - ct.down_mm[0])
    columns, rows = (round((at[-1] - at[0]) * scale * _DENSITY) for at in (ct.across_mm, ct.down_mm))
    low, high = _GREY_AT[0][0], _GREY_AT[0][-1]
    hu = np.clip(np.nan_to_num(_enlarged(ct.values, (columns, rows)), nan=low), low, high)
    return Ground(ct, float(scale), _greys().take((hu - low).astype(np.int16)))


def slice_png(
    on: Ground, values: Slice, wash: Wash, *, title: str, subtitle: str, mark: float | None = None
) -> bytes:
    """CT in grey, `values` washed over it, axes, colour bar; `mark` is a value to mark on the bar."""
    figure = Figure(560, 530, title, subtitle)
    left, top, ct, scale = 62.0, 74.0, on.ct, on.scale
    width, height = (ct.across_mm[-1] - ct.across_mm[0]) * scale, (ct.down_mm[-1] - ct.down_mm[0]) * scale
    figure.picture(_blend(on.grey, values, wash), (left, top))
    figure.box((left, top, left + width, top + height), outline=FAINT)
    for value in ticks(ct.across_mm[0], ct.across_mm[-1], 6):
        x = left + (value - ct.across_mm[0]) * scale
        figure.line([(x, top + height), (x, top + height + 4)], FAINT)
        figure.text((x, top + height + 7), f"{value:g}", size=11, colour=FAINT, anchor="ma")
    for value in ticks(ct.down_mm[0], ct.down_mm[-1], 6):
        y = top + (value - ct.down_mm[0]) * scale
        figure.line([(left - 4, y), (left, y)], FAINT)
        figure.text((left - 7, y), f"{value:g}", size=11, colour=FAINT, anchor="rm")
    figure.text((left + width / 2, top + height + 24), ct.names[0], size=11, colour=FAINT, anchor="ma")
    figure.text((left, top - 4), ct.names[1], size=11, colour=FAINT, anchor="ls")
    _colour_bar(figure, wash, left + width + 18, top, height, mark)
    return figure.png()


def _blend(grey: npt.NDArray[np.uint8], values: Slice, wash: Wash) -> Packed:
    """The colours of `values` over `grey`, all three channels of a pixel at once: no sum exceeds a byte."""
    fine = _enlarged(values.values, (grey.shape[1], grey.shape[0]))
    share = np.clip((fine - wash.low) / (wash.high - wash.low), 0.0, 1.0)
    over = _table(tuple(wash.colours), wash.opacity).take(
        (np.nan_to_num(share) * (_STEPS - 1)).astype(np.int16)
    )
    below = np.floor((1.0 - wash.opacity) * np.arange(256)).astype(np.uint32) * 0x010101
    known = np.isfinite(fine) & (fine >= wash.hidden_below)
    picture: Packed = np.where(known, over + below.take(grey), grey * np.uint32(0x010101))
    for level in wash.lines:
        colour = (
            colours_of(np.array((level - wash.low) / (wash.high - wash.low)), wash.colours) * 0.55 + 110.0
        )
        red, green, blue = (int(part) for part in np.clip(np.rint(colour), 0, 255))
        picture[_edges(fine >= level)] = red | green << 8 | blue << 16
    return picture


def _enlarged(values: Dose, size: tuple[int, int]) -> Dose:
    """`values` at `size` (columns, rows) pixels, from the first voxel's centre to the last one's."""
    places = [
        np.linspace(0, count - 1, pixels) for count, pixels in zip(values.shape, size[::-1], strict=True)
    ]
    first = [np.minimum(at.astype(int), n - 2) for at, n in zip(places, values.shape, strict=True)]
    down, across = ((at - low).astype(np.float32) for at, low in zip(places, first, strict=True))
    wide = values[:, first[1]] * (1 - across) + values[:, first[1] + 1] * across
    smooth: Dose = wide[first[0]] * (1 - down)[:, None] + wide[first[0] + 1] * down[:, None]
    blank = np.isnan(smooth)
    if blank.any():
        # A voxel that was left out (NaN) blanks its own surroundings only.
        rows, columns = (np.rint(at).astype(int) for at in places)
        smooth = np.where(blank, values[rows][:, columns], smooth)
    return smooth


def _edges(inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    edge = np.zeros_like(inside)
    for shift in range(1, 3):
        edge[:-shift] |= inside[:-shift] ^ inside[shift:]
        edge[:, :-shift] |= inside[:, :-shift] ^ inside[:, shift:]
    return edge


def _colour_bar(
    figure: Figure, wash: Wash, left: float, top: float, height: float, mark: float | None
) -> None:
    steps = np.linspace(_STEPS - 1, 0, figure.pixels_of(height)).astype(np.int16)
    bar = _table(tuple(wash.colours), 1.0).take(steps)
    figure.picture(np.repeat(bar[:, None], figure.pixels_of(14), axis=1), (left, top))
    figure.box((left, top, left + 14, top + height), outline=FAINT)
    for value in ticks(wash.low, wash.high, 6):
        y = top + height * (wash.high - value) / (wash.high - wash.low)
        figure.line([(left + 14, y), (left + 18, y)], FAINT)
        figure.text((left + 21, y), f"{value:g}", size=11, colour=FAINT, anchor="lm")
    if mark is not None:
        y = top + height * (wash.high - mark) / (wash.high - wash.low)
        figure.line([(left - 3, y), (left + 17, y)], INK, 1.6)
    figure.text((left, top - 9), wash.unit, size=11, colour=FAINT, anchor="ls")


@dataclass(frozen=True, slots=True)
class Axes:
    """A chart's frame on a figure, and what its edges mean."""

    figure: Figure
    frame: tuple[float, float, float, float]  # left, top, right, bottom
    x: tuple[float, float]
    y: tuple[float, float]

    def at(self, x: float, y: float) -> tuple[float, float]:
        """The place of a value on the page."""
        left, top, right, bottom = self.frame
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return left + across * (right - left), bottom - up * (bottom - top)

    def draw(self, x_name: str, y_name: str, *, x_ticks: Sequence[float] | None = None) -> None:
        """Grid, ticks, names and frame."""
        left, top, right, bottom = self.frame
        for value in ticks(*self.y):
            _, y = self.at(self.x[0], value)
            self.figure.line([(left, y), (right, y)], RULE)
            self.figure.text((left - 6, y), f"{value:g}", size=11, colour=FAINT, anchor="rm")
        for value in x_ticks if x_ticks is not None else ticks(*self.x, 7):
            x, _ = self.at(value, self.y[0])
            self.figure.line([(x, bottom), (x, bottom + 4)], FAINT)
            self.figure.text((x, bottom + 7), f"{value:g}", size=11, colour=FAINT, anchor="ma")
        self.figure.box(self.frame, outline=FAINT)
        self.figure.text(((left + right) / 2, bottom + 23), x_name, size=11, colour=FAINT, anchor="ma")
        self.figure.text((left, top - 5), y_name, size=11, colour=FAINT, anchor="ls")

    def curve(self, x: Floats, y: Floats, colour: Colour, width: float = 1.8) -> None:
        """A line through the points."""
        self.figure.line([self.at(float(a), float(b)) for a, b in zip(x, y, strict=True)], colour, width)


def legend(figure: Figure, at: tuple[float, float], entries: Sequence[tuple[str, Colour]]) -> None:
    """Names with their colours, in one row that ends at `at` (right, top)."""
    x = at[0]
    for name, colour in reversed(entries):
        x -= figure.width_of(name, size=12)
        figure.text((x, at[1]), name, size=12, anchor="lm")
        x -= 22
        figure.line([(x, at[1]), (x + 16, at[1])], colour, 2.4)
        x -= 18


def depth_png(planned: Slice, delivered: Slice, ct: Slice, *, x_mm: float, y_mm: float) -> bytes:
    """Profiles of both doses through a point: along y (depth of a beam from the front) and along x."""
    figure = Figure(
        1140,
        400,
        "Depth dose and profile",
        "through the isocentre; the difference is drawn below the curves",
    )
    legend(figure, (1120, 24), [("planned", PLANNED), ("delivered", DELIVERED), ("difference", BAD)])
    column = int(np.abs(ct.across_mm - x_mm).argmin())
    row = int(np.abs(ct.down_mm - y_mm).argmin())
    peak = float(max(planned.values.max(), delivered.values.max(), 1e-9))
    cuts = (
        (ct.down_mm, planned.values[:, column], delivered.values[:, column], "y (front to back) mm"),
        (ct.across_mm, planned.values[row], delivered.values[row], "x (right to left) mm"),
    )
    for number, (at, one, other, name) in enumerate(cuts):
        left = 62.0 + 560 * number
        axes = Axes(
            figure, (left, 76, left + 490, 340), (float(at[0]), float(at[-1])), (-0.15 * peak, 1.08 * peak)
        )
        axes.draw(name, "dose Gy")
        with figure.smooth(axes.frame):
            axes.curve(at, np.zeros_like(at), FAINT, 0.8)
            axes.curve(at, other.astype(np.float64) - one, BAD, 1.2)
            axes.curve(at, one.astype(np.float64), PLANNED, 2.6)
            axes.curve(at, other.astype(np.float64), DELIVERED, 1.4)
    return figure.png()


def logs_png(layers: Sequence[LayerDeviation], *, position_mm: float, mu_percent: float) -> bytes:
    """Spot positions, their deviations over time of delivery, and MU per layer, against the limits."""
    figure = Figure(1140, 400, "Delivery logs", "delivered minus planned; dashed: the limits of the verdict")
    dx, dy, number = _deviations(layers)
    reach = max(1.25 * position_mm, 1.1 * float(np.abs(np.concatenate([dx, dy, [0.0]])).max()))
    left = Axes(figure, (62, 76, 326, 340), (-reach, reach), (-reach, reach))
    left.draw("dx mm", "dy mm")
    spots = list(zip(dx.tolist(), dy.tolist(), number.tolist(), strict=True))
    with figure.smooth(left.frame):
        _circle(left, position_mm)
        for x, y, _ in spots:
            figure.dot(left.at(x, y), 1.3, PLANNED if math.hypot(x, y) <= position_mm else BAD)
    count = max(len(layers), 1)
    middle = Axes(figure, (396, 76, 736, 340), (0.0, count + 1.0), (0.0, reach))
    middle.draw("layer, in order of delivery", "distance from plan mm")
    _dashes(middle, position_mm)
    with figure.smooth(middle.frame):
        for x, y, at in spots:
            far = math.hypot(x, y)
            figure.dot(middle.at(at, far), 1.2, PLANNED if far <= position_mm else BAD)
    share = np.array([layer.mu_percent for layer in layers])
    bound = max(1.4 * mu_percent, 1.15 * float(np.abs(np.concatenate([share, [0.0]])).max()))
    right = Axes(figure, (806, 76, 1120, 340), (0.0, count + 1.0), (-bound, bound))
    right.draw("layer, in order of delivery", "MU deviation %")
    for limit in (-mu_percent, mu_percent):
        _dashes(right, limit)
    for at, value in enumerate(share, start=1):
        x0, y0 = right.at(at - 0.38, max(value, 0.0))
        x1, y1 = right.at(at + 0.38, min(value, 0.0))
        figure.box((x0, y0, x1, max(y1, y0 + 0.8)), fill=GOOD if abs(value) <= mu_percent else BAD)
    return figure.png()


def _deviations(layers: Sequence[LayerDeviation]) -> tuple[Floats, Floats, Floats]:
    found = [
        (spot.dx_mm, spot.dy_mm, number)
        for number, layer in enumerate(layers, start=1)
        for spot in layer.spots
        if spot.dx_mm is not None and spot.dy_mm is not None
    ]
    table = np.array(found, dtype=np.float64).reshape(-1, 3)
    return table[:, 0], table[:, 1], table[:, 2]


def _circle(axes: Axes, radius: float) -> None:
    turn = np.linspace(0, 2 * np.pi, 73)
    for start in range(0, 72, 2):
        part = turn[start : start + 2]
        axes.figure.line(
            [axes.at(float(radius * np.cos(t)), float(radius * np.sin(t))) for t in part], BAD, 1.2
        )


def _dashes(axes: Axes, y: float) -> None:
    x = np.linspace(*axes.x, 61)
    for start in range(0, 60, 2):
        axes.figure.line([axes.at(float(x[start]), y), axes.at(float(x[start + 1]), y)], BAD, 1.2)


def gamma_histogram_png(values: Dose) -> bytes:
    """How many points have which gamma."""
    figure = Figure(560, 530, "Gamma histogram", "share of the points; beyond the dark line they fail")
    known = values[np.isfinite(values)]
    counts, edges = np.histogram(known, bins=40, range=(0.0, 2.0))
    share = 100.0 * counts / max(known.size, 1)
    axes = Axes(figure, (62, 76, 540, 462), (0.0, 2.0), (0.0, 1.1 * float(max(share.max(), 1.0))))
    axes.draw("gamma", "points %")
    for value, low, high in zip(share, edges, edges[1:], strict=False):
        x0, y0 = axes.at(float(low) + 0.004, float(value))
        x1, y1 = axes.at(float(high) - 0.004, 0.0)
        figure.box((x0, y0, x1, y1), fill=PLANNED if high <= 1.0 + 1e-9 else BAD)
    axes.figure.line([axes.at(1.0, 0.0), axes.at(1.0, axes.y[1])], INK, 1.4)
    return figure.png()


def write(pictures: dict[str, bytes], folder: Path) -> None:
    """Write the pictures by name."""
    for name, content in pictures.items():
        (folder / name).write_bytes(content)
