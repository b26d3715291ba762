"""The monthly security report of one AWS account: what it is made of, and as HTML, JSON and CSV.

Reading an account (`collecting.collect_month`) is imported from there: it needs the SDK.
"""

from fairlead.support.model import Language
from fairlead.support.monthly.documents import from_json, to_csv, to_json
from fairlead.support.monthly.model import MonthlyData
from fairlead.support.monthly.month import Month
from fairlead.support.monthly.page import to_html

__all__ = ["Month", "MonthlyData", "from_json", "render"]


def render(data: MonthlyData, *, language: Language, previous: MonthlyData | None = None) -> dict[str, bytes]:
    """The report by file name; `previous` is the month before, of the same account. Raises AccountsDiffer."""
    return {
        "report.html": to_html(data, language, previous).encode(),
        "report.json": to_json(data, previous),
        # Excel reads Korean only behind a byte order mark.
        "report.csv": ("\ufeff" + to_csv(data)).encode(),
    }
