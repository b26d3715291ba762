"""Who has been told what: decides which events of a job go out next, so that each agent gets all, in order.

Pure. Every process follows the jobs of the tickets that its own agents look at. Events come to it from the
database (complete, in order) and, where there are several processes, also as hearsay from the one that read
them first; hearsay only saves reading, and nothing is lost where it is.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

HEARD_FOR_S = 2.0  # a job that others told of so lately is read less often
READ_HEARD_S = 1.0
ENDED_FOR_S = 180.0  # how long an ended job is remembered


@dataclass(slots=True)
class Feed:
    """One job, as far as this process has told of it."""

    room: str
    told: int  # the last number that went out to the room
    read_at: float = float("-inf")
    heard_at: float = float("-inf")
    ended_at: float | None = None


@dataclass(slots=True)
class Feeds:
    """Every job that is followed or ended lately.

    Invariant: whoever is in a room was sent, of each of its jobs, all up to `Feed.told` at least.
    """

    by_job: dict[str, Feed] = field(default_factory=dict)

    def follow(self, job: str, room: str, told: int = 0) -> None:
        """Follow `job` from `told` on, unless it is known. `told` must not be above what there is."""
        self.by_job.setdefault(job, Feed(room, told))

    def knows(self, job: str) -> bool:
        """Whether it is followed or ended lately."""
        return job in self.by_job

    def forget(self, room: str) -> None:
        """Nobody is in `room` any more: its jobs are followed again when somebody comes."""
        for job in [job for job, feed in self.by_job.items() if feed.room == room]:
            del self.by_job[job]

    def due(self, now: float) -> dict[str, int]:
        """Jobs to read now, and after which number. What others tell of is read less often."""
        found = {
            job: feed.told
            for job, feed in self.by_job.items()
            if feed.ended_at is None
            and (now - feed.heard_at > HEARD_FOR_S or now - feed.read_at >= READ_HEARD_S)
        }
        for job in found:
            self.by_job[job].read_at = now
        return found

    def take(self, job: str, seq: int) -> str | None:
        """The room that event `seq`, read from the database, goes to; None: it was told, or nobody waits."""
        feed = self.by_job.get(job)
        if feed is None or seq <= feed.told:
            return None
        feed.told = seq
        return feed.room

    def hear(self, job: str, seq: int, now: float) -> str | None:
        """The same for an event that another process tells of; None too where one before it is missing."""
        feed = self.by_job.get(job)
        if feed is None:
            return None
        if seq > feed.told + 1:
            feed.read_at = feed.heard_at = float("-inf")  # read it at once
            return None
        feed.heard_at = now
        return self.take(job, seq)

    def end(self, jobs: Iterable[str], now: float) -> None:
        """These will tell no more. They are remembered for a while: nobody shall follow them again."""
        for job in jobs:
            if feed := self.by_job.get(job):
                feed.ended_at = now
        for job, feed in list(self.by_job.items()):
            if feed.ended_at is not None and now - feed.ended_at > ENDED_FOR_S:
                del self.by_job[job]

    def behind(self, room: str, sent: Mapping[str, int]) -> dict[str, int]:
        """Jobs of `room` of which whoever was sent `sent` lacks what the room was told, and from where."""
        return {
            job: sent.get(job, 0)
            for job, feed in self.by_job.items()
            if feed.room == room and feed.told > sent.get(job, 0)
        }


@dataclass(slots=True)
class Bucket:
    """A token bucket: `burst` at once, `rate` a second."""

    rate: float
    burst: float
    level: float = field(default=-1.0)
    at: float = 0.0

    def take(self, now: float) -> float:
        """0 and one token less, or the seconds until there is one."""
        if self.level < 0:
            self.level, self.at = self.burst, now
        self.level = min(self.burst, self.level + (now - self.at) * self.rate)
        self.at = now
        if self.level >= 1:
            self.level -= 1
            return 0.0
        return (1 - self.level) / self.rate

    def full(self, now: float) -> bool:
        """Whether nobody took anything lately."""
        return self.level < 0 or self.level + (now - self.at) * self.rate >= self.burst
