"""A table and a log that keep their place while what they show changes."""

from collections.abc import Sequence
from typing import Any

from rich.text import Text
from textual import events
from textual.widgets import DataTable, RichLog

from fairlead.cli.dashboard import view
from fairlead.cli.dashboard.view import Row


class Rows(DataTable[Text]):
    """A table that keeps its cursor on the same thing whatever changes around it."""

    def __init__(self, *columns: str, pane: str) -> None:
        """With these columns, in this pane."""
        super().__init__(id=pane, cursor_type="row", zebra_stripes=False)
        self._names = columns
        self._shown: list[Row] = []
        self._widths: list[int] = []

    def on_mount(self) -> None:
        """Columns never change, but for their widths."""
        for name in self._names:
            self.add_column(name, key=name, width=len(name))

    @property
    def chosen(self) -> str | None:
        """Key of the row under the cursor."""
        return self._shown[self.cursor_row].key if 0 <= self.cursor_row < len(self._shown) else None

    def show(self, rows: Sequence[Row]) -> None:
        """Show these rows; only cells that differ are drawn again where rows and widths are the same."""
        before, kept = self._shown, self.chosen
        widths = [
            max(len(name), *(row.cells[place].cell_len for row in rows)) if rows else len(name)
            for place, name in enumerate(self._names)
        ]
        self._shown = list(rows)
        if [row.key for row in before] == [row.key for row in rows] and widths == self._widths:
            for old, new in zip(before, rows, strict=True):
                for name, was, now in zip(self._names, old.cells, new.cells, strict=True):
                    if was != now:
                        self.update_cell(new.key, name, now)
            return
        self._widths = widths
        self.clear()
        for column, width in zip(self.ordered_columns, widths, strict=True):
            column.width = width
        for row in rows:
            self.add_row(*row.cells, key=row.key)
        place = next((number for number, row in enumerate(rows) if row.key == kept), 0)
        self.move_cursor(row=place, animate=False, scroll=True)


class Events(RichLog):
    """The log of a run, wrapped to the width that there is."""

    def __init__(self) -> None:
        """Empty."""
        super().__init__(id="log", wrap=True, min_width=0)
        self._of: object = None
        self._seen: list[dict[str, Any]] = []
        self._width = 0

    def show(self, of: object, seen: Sequence[dict[str, Any]]) -> None:
        """Show these events; where they are `of` the same as before, only new ones are added."""
        last = self._seen[-1]["seq"] if self._seen and of == self._of else 0
        new = [event for event in seen if event["seq"] > last]
        if of != self._of:
            self.clear()
        self._of, self._seen = of, list(seen)
        self._add(new)

    def _add(self, new: Sequence[dict[str, Any]]) -> None:
        if self._width:  # else nobody sees it, and nothing could be wrapped
            for event in new:
                self.write(view.event_line(event))

    def on_resize(self, event: events.Resize) -> None:  # noqa: ARG002 - the base class names it
        """Wrap anew."""
        width = self.scrollable_content_region.width
        if width != self._width:
            self._width = width
            self.clear()
            self._add(self._seen)
