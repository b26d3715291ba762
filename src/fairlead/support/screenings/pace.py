"""How far a screening is: never backwards, a hundred only when all was read, estimates never negative."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from fairlead.support.model import Finding
from fairlead.support.screenings.port import Progress

EVERYWHERE = "global"  # region of what is read once, or in all regions together


@dataclass(frozen=True, slots=True)
class Part:
    """What is read, and told as missing, as a whole."""

    service: str
    region: str
    weight: int = 1  # its share of the percentages; 1 at least

    @property
    def stage(self) -> str:
        """As people see it."""
        return self.service if self.region == EVERYWHERE else f"{self.service} {self.region}"


@dataclass(slots=True)
class Course:
    """The parts of a screening, and where it stands with each. `now` is in seconds of any clock."""

    parts: Iterable[Part]
    began: float
    total: int = 0
    resources: int = 0  # looked at
    open: dict[tuple[str, str], Part] = field(default_factory=dict)  # not read to their end
    failed: set[str] = field(default_factory=set)  # services with a gap
    left: list[Finding] = field(default_factory=list)  # found, and cut off before they were handed over
    _active: list[str] = field(default_factory=list)  # stages; the one that has been going on longest first
    _inside: dict[tuple[str, str], int] = field(default_factory=dict)  # how far open parts are
    _elapsed: float = 0.0

    def __post_init__(self) -> None:
        """Nothing is read yet."""
        self.open = {(part.service, part.region): part for part in self.parts}
        self.total = sum(part.weight for part in self.open.values())

    def begin(self, part: Part) -> None:
        """`part` is being read."""
        if (part.service, part.region) in self.open and part.stage not in self._active:
            self._active.append(part.stage)

    def inside(self, part: Part, done: int) -> None:
        """`done` of the weight of `part` is behind; less than before counts as before."""
        key = (part.service, part.region)
        if key in self.open:
            self._inside[key] = min(max(done, self._inside.get(key, 0)), self.open[key].weight - 1)

    def end(self, part: Part) -> None:
        """`part` was read to its end, as far as it could be."""
        key = (part.service, part.region)
        self.open.pop(key, None)
        self._inside.pop(key, None)
        if part.stage in self._active:
            self._active.remove(part.stage)

    @property
    def done(self) -> int:
        """Of `total`."""
        return self.total - sum(part.weight for part in self.open.values()) + sum(self._inside.values())

    def progress(self, now: float, *, heartbeat: bool = False) -> Progress:
        """Where it stands."""
        self._elapsed = max(self._elapsed, now - self.began)
        done = self.done
        remaining = self._elapsed / done * (self.total - done) if done else None
        return Progress(
            done=done,
            total=self.total,
            percent=100 * done // self.total if self.total else 100,
            stage=self._active[0] if self._active else "",
            resources=self.resources,
            elapsed_s=round(self._elapsed, 3),
            remaining_s=None if remaining is None else round(remaining, 1),
            heartbeat=heartbeat,
        )
