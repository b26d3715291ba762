"""The dashboard itself: lists that follow the feed, and keys that act through it."""

import time
from typing import Any, ClassVar

from rich.text import Text
from textual import events
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, VerticalScroll
from textual.message import Message
from textual.theme import Theme
from textual.widget import Widget
from textual.widgets import DataTable, Footer, Input, Static

from fairlead.cli.dashboard import view
from fairlead.cli.dashboard.feed import Action, Away, Chosen, Done, Feed, News, Seen
from fairlead.cli.dashboard.panes import Events, Rows
from fairlead.cli.dashboard.screens import HELP, Ask, Choice, Page

BELIEVED_S = 5.0
PANES = {
    "cases": "Cases",
    "running": "Running",
    "hosts": "Hosts",
    "gpus": "GPUs",
    "details": "Details",
    "log": "Log",
}
# Nothing is painted but words and lines: the terminal's own background and foreground always fit each other.
TERMINAL = Theme(
    name="fairlead-terminal",
    ansi=True,
    primary="ansi_default",
    secondary="ansi_default",
    accent="ansi_default",
    warning="ansi_magenta",
    error="ansi_red",
    success="ansi_green",
    foreground="ansi_default",
    background="ansi_default",
    surface="ansi_default",
    panel="ansi_default",
    boost="ansi_default",
    variables={
        "ansi-background": "ansi_default",
        "ansi-foreground": "ansi_default",
        "border": "ansi_default",
        "border-blurred": "ansi_default",
        "block-cursor-foreground": "ansi_default",
        "block-cursor-background": "ansi_default",
        "block-cursor-text-style": "reverse",
        "footer-key-foreground": "ansi_default",
        "footer-background": "ansi_default",
        "footer-item-background": "ansi_default",
        "footer-key-background": "ansi_default",
        "footer-description-background": "ansi_default",
        "scrollbar": "ansi_default",
        "scrollbar-background": "ansi_default",
    },
)


class Heard(Message):
    """News of the feed, from one of its threads."""

    def __init__(self, news: News) -> None:
        """Carries `news`."""
        super().__init__()
        self.news = news


class Dashboard(App[None]):
    """Queues, hosts, GPUs, running steps, one case and its log."""

    CSS_PATH = "dashboard.tcss"
    ENABLE_COMMAND_PALETTE = False
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (116, "-wide")]  # noqa: RUF012 - as Textual declares it
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "detail", "Detail", show=False),
        Binding("r", "retry", "Retry"),
        Binding("c", "cancel", "Cancel"),
        Binding("p", "prioritise(1)", "Prio+"),
        Binding("P", "prioritise(-1)", "Prio-"),
        Binding("d", "host", "Host"),
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("question_mark", "help", "Help", key_display="?"),
        Binding("q", "quit", "Quit"),
        Binding("g", "log_from", "Log from", show=False),
        Binding("tab", "pane(1)", "Next", show=False, priority=True),
        Binding("shift+tab", "pane(-1)", "Previous", show=False, priority=True),
        Binding("escape", "clear_filter", "All", show=False),
        *(
            Binding(str(n), f"go('{name}')", title, show=False)
            for n, (name, title) in enumerate(PANES.items(), 1)
        ),
    ]

    def __init__(self, feed: Feed, project: str, *, log_after: int = 0) -> None:
        """`log_after`: the log of every case begins after this number."""
        # Before any theme is chosen: NO_COLOR then leaves the terminal's own two colours, not black on black.
        super().__init__(ansi_color=True)
        self.feed, self.project, self._log_after = feed, project, log_after
        self.seen: Seen | None = None
        self.away: dict[str, Any] | None = None
        self._words = ""
        self._front = "details"  # the pane that a narrow terminal shows below the cases
        # Priorities that were asked for and not seen yet, and until when that is believed.
        self._wanted: dict[int, tuple[int, float]] = {}

    # --- what there is ---

    def compose(self) -> ComposeResult:
        """Two lines about everything, the panes, a filter, the keys."""
        yield Static(id="top")
        yield Static(id="counts")
        with Container(id="panes"):
            yield Rows(*view.CASES, pane="cases")
            yield Rows(*view.HOSTS, pane="hosts")
            yield Rows(*view.RUNNING, pane="running")
            yield Rows(*view.GPUS, pane="gpus")
            with VerticalScroll(id="details", can_focus=True):
                yield Static(view.details(None), id="case")
            yield Events()
        yield Static(id="tabs")
        yield Input(id="filter", placeholder="words; Esc shows all", compact=True)
        yield Footer(compact=True)

    def on_mount(self) -> None:
        """Begin to look."""
        self.register_theme(TERMINAL)
        self.theme = TERMINAL.name
        for number, (name, title) in enumerate(PANES.items(), 1):
            self.query_one(f"#{name}").border_title = f"{number} {title}"
        self.query_one("#filter").display = False
        self._bring("details", focus=False)
        self.query_one("#cases").focus()
        self.set_interval(1.0, self._tick)
        self._tick()
        self.feed.start(lambda news: self.post_message(Heard(news)))

    def on_unmount(self) -> None:
        """The feed's threads end by themselves."""
        self.feed.stop()

    # --- what comes in ---

    def on_heard(self, message: Heard) -> None:
        """Take in what the feed has to say."""
        news = message.news
        if not self.query("#top"):
            return  # it closes at this moment
        if isinstance(news, Away):
            self.away = news.problem
        elif isinstance(news, Seen):
            self.away, self.seen = None, news
            self._show(news)
        else:
            self._answer(news)
        self._tick()

    def _show(self, seen: Seen) -> None:
        overview = seen.overview
        known = {case["number"]: case["priority"] for case in view.all_cases(overview)}
        now = time.monotonic()
        self._wanted = {
            number: (wanted, until)
            for number, (wanted, until) in self._wanted.items()
            if known.get(number, wanted) != wanted and now < until
        }
        self._rows("cases").show(view.case_rows(overview, self._words))
        self._rows("running").show(view.running_rows(overview))
        self._rows("hosts").show(view.host_rows(overview))
        self._rows("gpus").show(view.gpu_rows(overview))
        self._choose()
        if seen.chosen is None or seen.chosen != self._chosen():
            return
        text = view.details(seen.details)
        self.query_one("#case", Static).update(text)
        if isinstance(self.screen, Page) and self.screen.id == "full":
            self.screen.show(text)
        run = (seen.details or {}).get("run_id")
        self.query_one(Events).show((seen.chosen, run), seen.events)

    def _answer(self, news: Done) -> None:
        if news.problem is None:
            self.notify(news.action.done, markup=False, timeout=4)
            return
        self._wanted.clear()
        problem = news.problem
        words = f"{problem.get('detail')}"
        if problem.get("remedy"):
            words += f"\nremedy: {problem['remedy']}"
        self.notify(words, title=str(problem.get("code")), severity="error", markup=False, timeout=12)

    def _tick(self) -> None:
        """The two lines on top: they say how old everything is."""
        passed = time.monotonic() - self.seen.at if self.seen else 0.0
        top = Text.assemble(("fairlead cases ", view.LIVE), self.project, "  ")
        if self.away is not None:
            code, detail = self.away.get("code"), self.away.get("detail")
            state = "SERVER AWAY" if code == "cli.server_unreachable" else f"NO ANSWER ({code})"
            old = f", shown is {view.span(passed)} old" if self.seen else ""
            top.append(f"○ {state}{old}; trying again. ", style=view.BAD).append(str(detail))
        elif self.seen is None:
            top.append("○ asking the server …", style=view.WARN)
        else:
            top.append("● live", style=view.GOOD)
        if self._words:
            top.append(f"  filter: {self._words}", style=view.WARN)
        self.query_one("#top", Static).update(top)
        if self.seen:
            self.query_one("#counts", Static).update(view.counts_line(self.seen.overview, passed_s=passed))

    # --- where one is ---

    def _rows(self, name: str) -> Rows:
        return self.query_one(f"#{name}", Rows)

    def _number(self) -> int | None:
        key = self._rows("cases").chosen
        return int(key) if key else None

    def _chosen(self) -> Chosen | None:
        number = self._number()
        return Chosen(number, self._log_after) if number is not None else None

    def _choose(self) -> None:
        self.feed.choose(self._chosen())

    def _case(self) -> dict[str, Any] | None:
        number = self._number()
        if self.seen is None:
            return None
        return next((dict(c) for c in view.all_cases(self.seen.overview) if c["number"] == number), None)

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        """Another case is looked at."""
        if event.data_table.id == "cases":
            self._choose()

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """Enter or a click on a row."""
        if event.data_table.id == "cases":
            self.action_detail()
        elif event.data_table.id == "hosts" and self.seen:
            name, overview = self._rows("hosts").chosen, self.seen.overview
            host = next((host for host in overview["hosts"] if host["name"] == name), None)
            self.push_screen(Page(f"Host {name}", view.host_details(host, overview["at"])))

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """A narrow terminal shows the pane that has the keys."""
        if event.widget.id in PANES:
            self._bring(str(event.widget.id), focus=False)

    def _bring(self, name: str, *, focus: bool = True) -> None:
        if name != "cases":
            self._front = name
        for pane in PANES:
            self.query_one(f"#{pane}", Widget).set_class(pane in ("cases", self._front), "-front")
        current = name if name == "cases" else self._front
        tabs = Text()
        for number, (pane, title) in enumerate(PANES.items(), 1):
            style = "reverse" if pane == current else "bold" if pane == self._front else view.QUIET
            tabs.append(f" {number} {title} ", style=style)
        self.query_one("#tabs", Static).update(tabs)
        if focus:
            self.query_one(f"#{name}", Widget).focus()

    def action_go(self, name: str) -> None:
        """To this pane."""
        self._bring(name)

    def action_pane(self, step: int) -> None:
        """To the next pane, or the one before."""
        if len(self.screen_stack) > 1:
            return
        names = list(PANES)
        here = self.focused.id if self.focused is not None and self.focused.id in PANES else "log"
        self._bring(names[(names.index(str(here)) + step) % len(names)])

    # --- what one does ---

    def _post(self, what: str, done: str, body: dict[str, Any] | None = None) -> None:
        number = self._number()
        if number is None:
            self.notify("No case is chosen.", severity="warning")
            return
        path = f"{self.feed.cases}/{number}/{what}"
        self.feed.act(Action(method="POST", path=path, body=body or {}, done=f"Case {number}: {done}"))

    def action_retry(self) -> None:
        """A new round of the chosen case."""
        self._post("retry", "a new round begins.")

    def action_cancel(self) -> None:
        """Stop the chosen case, if one means it."""
        number = self._number()
        if number is None:
            self.notify("No case is chosen.", severity="warning")
            return
        question = f"Cancel case {number} and stop its jobs on the hosts?"
        path = f"{self.feed.cases}/{number}/cancel"  # whatever the cursor is on when one answers
        action = Action(method="POST", path=path, done=f"Case {number}: it is asked to stop.")

        def answered(answer: str | None) -> None:
            if answer:
                self.feed.act(action)

        self.push_screen(Choice(question, {"y": ("yes, cancel it", "yes")}), answered)

    def action_prioritise(self, step: int) -> None:
        """The chosen case goes earlier, or later."""
        case = self._case()
        if case is None:
            self.notify("No case is chosen.", severity="warning")
            return
        number = case["number"]
        now, _ = self._wanted.get(number, (case["priority"], 0.0))
        wanted = max(-100, min(100, now + step))
        self._wanted[number] = (wanted, time.monotonic() + BELIEVED_S)
        self._post("priority", f"priority {wanted}.", {"priority": wanted})

    def action_host(self) -> None:
        """Pause, drain or resume the chosen host."""
        name = self._rows("hosts").chosen
        if name is None:
            self.notify("There is no host.", severity="warning")
            return

        def answered(state: str | None) -> None:
            if state:
                body, done = {"state": state}, f"Host {name} is {state}."
                self.feed.act(Action(method="PUT", path=f"/case-hosts/{name}", body=body, done=done))

        answers = {
            "p": ("pause: nothing new begins", "paused"),
            "d": ("drain: the same, to take it away", "draining"),
            "r": ("resume", "active"),
        }
        self.push_screen(Choice(f"Host {name}", answers), answered)

    def action_detail(self) -> None:
        """Everything about the chosen case."""
        case = self.seen.details if self.seen and self.seen.chosen == self._chosen() else None
        page = Page(f"Case {self._number()}", view.details(case))
        page.id = "full"
        self.push_screen(page)

    def action_help(self) -> None:
        """The keys."""
        self.push_screen(Page("Keys", Text(HELP)))

    def action_log_from(self) -> None:
        """Show the chosen case's log from a number on."""

        def answered(text: str | None) -> None:
            if text is not None and text.strip().isdigit():
                self._log_after = max(0, int(text) - 1)
                self._choose()

        self.push_screen(Ask("Show the log from which number on?"), answered)

    def action_filter(self) -> None:
        """Type words that cases have to hold."""
        field = self.query_one("#filter", Input)
        field.display = True
        field.focus()

    def action_clear_filter(self) -> None:
        """Show all cases."""
        self.query_one("#filter", Input).value = ""
        self._leave_filter()

    def on_input_changed(self, event: Input.Changed) -> None:
        """The list follows what is typed."""
        if event.input.id == "filter":
            self._words = event.value.strip()
            if self.seen:
                self._rows("cases").show(view.case_rows(self.seen.overview, self._words))
                self._choose()
            self._tick()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Back to the list, filtered."""
        if event.input.id == "filter":
            self._leave_filter()

    def _leave_filter(self) -> None:
        self.query_one("#filter").display = False
        self._bring("cases")
