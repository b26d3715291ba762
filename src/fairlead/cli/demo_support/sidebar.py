"""An agent's eyes and hands: the app beside a ticket, in the browser."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fairlead.cli.demo_support.chromium import Browser, Page
from fairlead.cli.demo_support.zendesk import ORIGIN, Person, Zendesk

JOB_S = 90.0
ENDS = frozenset({"answer", "clarify", "report", "failed", "cancelled"})
_EVENT = '42/support,["job",'
_SCHEMES = ("light", "dark")
# The state that pictures are taken in: colours arrived, fonts there, nothing on its way.
_STILL = (
    "Promise.race([Promise.allSettled([document.fonts.ready, ...document.getAnimations()"
    ".filter((one) => one.effect.getTiming().iterations === 1).map((one) => one.finished)]),"
    " new Promise((done) => setTimeout(done, 1000))]).then(() => new Promise(requestAnimationFrame))"
)


@dataclass(frozen=True, slots=True)
class Heard:
    """One event of a job, as it came over the wire."""

    job: str
    seq: int
    kind: str
    data: Mapping[str, Any]


@dataclass(slots=True)
class Timed:
    """How long an answer took, in seconds from the agent's Enter."""

    first_s: float | None = None  # until something of it is to be read
    whole_s: float = 0.0


@dataclass
class Sidebar:
    """One ticket, open."""

    page: Page
    app: str  # origin of the app
    pictures: Path
    taken: list[Path] = field(default_factory=list)
    opened_s: float = 0.0
    taking_s: float = 0.0  # spent on pictures

    # --- looking ---------------------------------------------------------------------------------

    def look(self, expression: str) -> Any:
        """The value of JavaScript in the app."""
        return self.page.evaluate(expression, origin=self.app)

    def until(self, expression: str, deadline_s: float = JOB_S) -> None:
        """Wait for it in the app. Raises AssertionError."""
        self.page.until(expression, origin=self.app, deadline_s=deadline_s)

    def texts(self, selector: str) -> list[str]:
        """What elements of the app show."""
        found: list[str] = self.look(
            f"[...document.querySelectorAll({json.dumps(selector)})].map((one) => one.innerText.trim())"
        )
        return found

    def everything(self) -> str:
        """All that is to be read in the app, folded parts included."""
        return str(self.look("document.body.textContent"))

    def heard(self) -> list[Heard]:
        """Every event of a job that came, as often as it came."""
        found = []
        for text in self.page.frames:
            if text.startswith(_EVENT):
                one = json.loads(text[text.index("[") :])[1]
                found.append(Heard(one["job"], one["seq"], one["kind"], one["data"]))
        return found

    def picture(self, name: str) -> None:
        """Take it in light and dark; the app stays as it was."""
        began = time.monotonic()
        before = str(self.page.evaluate("document.documentElement.dataset.scheme"))
        for scheme in (before, *(other for other in _SCHEMES if other != before)):
            self._switch(scheme)
            path = self.pictures / f"{name}-{scheme}.png"
            self.page.screenshot(path)
            self.taken.append(path)
        self._switch(before)
        self.taking_s += time.monotonic() - began

    def _switch(self, scheme: str) -> None:
        # The browser's own preference too: reports follow it.
        self.page.call(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        )
        self.page.evaluate(f"zendesk.setScheme('{scheme}')")
        self.until(f"document.documentElement.dataset.theme === '{scheme}'")
        self.look(_STILL)

    # --- doing -----------------------------------------------------------------------------------

    def press(self, selector: str, last: bool = False) -> None:
        """Press a button of the app: the first that `selector` finds, or the last."""
        at = -1 if last else 0
        self.look(f"[...document.querySelectorAll({json.dumps(selector)})].at({at}).click()")

    def write(self, text: str) -> None:
        """Type a question and press Enter."""
        self.look("document.querySelector('textarea').focus()")
        self.page.call("Input.insertText", {"text": text})
        self.page.key("Enter", code=13, text="\r")

    def ask(self, text: str) -> Timed:
        """Ask, and wait for the end."""
        return self._timed(lambda: self.write(text))

    def quick(self, action: str) -> Timed:
        """The same by a quick action."""
        return self._timed(lambda: self.press(f"[data-action={action}]"))

    def choose(self, selector: str) -> Timed:
        """The same by the first of the choices that were offered."""
        return self._timed(lambda: self.press(selector))

    def _timed(self, act: Any) -> Timed:
        before, began, timed = len(self.heard()), time.monotonic(), Timed()
        act()
        while True:
            self.look("new Promise((done) => setTimeout(done, 20))")
            now = time.monotonic() - began
            kinds = {one.kind for one in self.heard()[before:]}
            if timed.first_s is None and kinds & {"delta", *ENDS}:
                timed.first_s = now
            if kinds & ENDS:
                timed.whole_s = now
                break
            if now > JOB_S:
                raise AssertionError(f"no answer within {JOB_S:g} s: {sorted(kinds)}")
        self.settled()
        return timed

    def settled(self) -> None:
        """Wait until nothing is under way."""
        self.until("!document.querySelector('.item.progress, .item.pending, .streaming')")

    def opened(self, selector: str) -> None:
        """Unfold a part of the conversation and bring it into view."""
        self.look(
            f"(() => {{ const one = [...document.querySelectorAll({json.dumps(selector)})].at(-1);"
            " one.open = true; one.closest('.item').scrollIntoView({block: 'end'}); })()"
        )

    def see(self, selector: str) -> None:
        """Scroll the last such part of the conversation into view."""
        self.look(f"[...document.querySelectorAll({json.dumps(selector)})].at(-1).scrollIntoView(false)")

    def down(self) -> None:
        """Look at the end of the conversation."""
        self.look("(() => { const one = document.querySelector('.scroller'); one.scrollTop = 1e6; })()")

    @property
    def editor(self) -> tuple[str, str]:
        """Kind and text of what stands in the ticket's editor."""
        kind, text = self.page.evaluate(
            "[document.getElementById('editor').dataset.kind, document.getElementById('comment').textContent]"
        )
        return kind, text


@contextmanager
def opened(
    browser: Browser, zendesk: Zendesk, agent: Person, ticket: int, pictures: Path
) -> Iterator[Sidebar]:
    """The ticket, opened by `agent`, with the app connected; closed at the end."""
    zendesk.agent, began = agent, time.monotonic()
    page = browser.page(
        f"{ORIGIN}/agent/tickets/{ticket}", stand_ins=zendesk.stand_ins(), width=1240, height=800
    )
    sidebar = Sidebar(page, zendesk.app, pictures)
    try:
        sidebar.until("document.documentElement.dataset.state === 'online'")
        sidebar.until("document.querySelector('.account').textContent")
        sidebar.opened_s = time.monotonic() - began
        yield sidebar
    finally:
        page.close()
