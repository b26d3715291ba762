"""The dashboard's dialogues: help, one case in full, a question, a host's state, a number."""

from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Input, Static

HELP = """Move
  ↑ ↓ PgUp PgDn Home End   in a list
  Tab, Shift+Tab, 1 … 6    to another pane
  Enter                    everything about the chosen case or host
  /                        only cases with these words; Esc: all
  g                        show the log from a number on

Do (with the chosen case or host; what you may not do is refused)
  r      retry a case that has ended: a new round
  c      cancel a case and its jobs on hosts; asks first
  p, P   priority up, down
  d      pause, drain or resume the chosen host

Else
  ?      this
  q      quit; nothing stops with the dashboard"""


BOX = """
    %(name)s { align: center middle; background: $background 60%%; }
    %(name)s:ansi { background: ansi_default; }
    %(name)s > VerticalScroll {
        width: auto; max-width: 96%%; height: auto; max-height: 96%%;
        border: round $foreground; padding: 0 1; background: $background;
    }
    %(name)s Static { width: auto; max-width: 100%%; }
"""


class Page(ModalScreen[None]):
    """Text to read: help, or everything about one case. Any of its keys closes it."""

    DEFAULT_CSS = BOX % {"name": "Page"} + "Page > VerticalScroll { min-width: 60; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,q,question_mark", "close", "Close"),
    ]

    def __init__(self, title: str, text: Text) -> None:
        """`text` under `title`."""
        super().__init__()
        self._title, self._text = title, text

    def compose(self) -> ComposeResult:
        """A box that scrolls."""
        with VerticalScroll() as box:
            box.border_title = self._title
            box.border_subtitle = "Esc closes"
            yield Static(self._text, id="text")

    def show(self, text: Text) -> None:
        """Show newer text, where the reader has scrolled to."""
        self.query_one("#text", Static).update(text)

    def action_close(self) -> None:
        """Back to the lists."""
        self.dismiss(None)


class Choice(ModalScreen[str | None]):
    """A question with one key per answer; Esc is no answer."""

    DEFAULT_CSS = BOX % {"name": "Choice"}
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "answer('')", "Leave it")]

    def __init__(self, question: str, answers: dict[str, tuple[str, str]]) -> None:
        """`answers`: key → what it says, and the value that it stands for."""
        super().__init__()
        self._question, self._answers = question, answers

    def compose(self) -> ComposeResult:
        """The question and its keys."""
        text = Text(self._question + "\n\n")
        for key, (words, _) in self._answers.items():
            text.append(f" {key} ", style="reverse").append(f" {words}\n")
        text.append(" Esc ", style="reverse").append(" leave it")
        with VerticalScroll():
            yield Static(text, id="text")

    def on_key(self, event: events.Key) -> None:
        """The value that was chosen."""
        if event.key in self._answers:
            event.stop()
            self.dismiss(self._answers[event.key][1])

    def action_answer(self, value: str) -> None:
        """No answer."""
        self.dismiss(value or None)


class Ask(ModalScreen[str | None]):
    """One line of text; Esc is no answer."""

    DEFAULT_CSS = BOX % {"name": "Ask"} + "Ask Input { width: 30; }"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Leave it")]

    def __init__(self, question: str) -> None:
        """Asks `question`."""
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        """The question and a field."""
        with VerticalScroll():
            yield Static(Text(self._question), id="text")
            yield Input(type="integer", compact=True)

    def on_mount(self) -> None:
        """One types at once."""
        self.query_one(Input).focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """The text."""
        self.dismiss(event.value)

    def action_leave(self) -> None:
        """No answer."""
        self.dismiss(None)
