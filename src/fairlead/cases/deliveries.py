"""Delivered fields: PlanInfo and PlanRange read, and deliveries grouped into fractions.

PlanInfo is the truth about a delivery; the name of its folder is used for nothing but the time, and only
where PlanInfo gives none.
"""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from fairlead.cases.folders import MAX_TEXT_BYTES, is_safe_name, read_bytes
from fairlead.cases.logs import MAX_LAYER
from fairlead.cases.model import CaseFault, Delivery, Fraction, FractionState, LayerRecord

PLAN_INFO = "PlanInfo.txt"
PLAN_RANGES = ("PlanRange.txt", "PlanRange.csv")
FRACTION_WINDOW = timedelta(hours=1)
_TIME_FORM = "%Y%m%d%H%M%S%f"
_COLUMNS = ("LAYER_NO", "LAYER_ENERGY", "DOSE1_RANGE", "DOSE2_RANGE", "SCAN_OUT_FL_NM")


@dataclass(frozen=True, slots=True)
class _Text:
    """Key and value pairs of one file, with its place for messages."""

    values: Mapping[str, str]
    file: str
    kind: str
    where: str = ""

    def text(self, key: str) -> str:
        value = (self.values.get(key) or "").strip()
        if not value:
            raise self.fault(key, "the value is missing", "value_missing")
        return value

    def integer(self, key: str, low: int, high: int) -> int:
        text = self.text(key)
        if not (text.isascii() and text.isdigit() and len(text) <= 9) or not low <= int(text) <= high:
            raise self.fault(key, f"a whole number from {low} to {high} was expected")
        return int(text)

    def number(self, key: str) -> float:
        try:
            value = float(self.text(key))
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or value <= 0:
            raise self.fault(key, "a number above 0 was expected")
        return value

    def fault(self, key: str, message: str, rule: str = "value_invalid") -> CaseFault:
        return CaseFault(message, rule=f"{self.kind}.{rule}", file=self.file, field=f"{self.where}{key}")


def _lines(path: Path, *, file: str, kind: str) -> list[str]:
    content = read_bytes(path, file=file, limit=MAX_TEXT_BYTES, kind=kind)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise CaseFault("the file is not text in UTF-8", rule=f"{kind}.unreadable", file=file) from None
    if "\0" in text:
        raise CaseFault("the file holds zero bytes", rule=f"{kind}.unreadable", file=file)
    # With their ends: a quoted name that holds a newline is a name with a newline, and no shorter one.
    return text.splitlines(keepends=True)


def read_plan_info(path: Path, *, file: str) -> Mapping[str, str]:
    """The KEY,VALUE lines of a PlanInfo file. Raises CaseFault for other lines and repeated keys."""
    values: dict[str, str] = {}
    for number, line in enumerate(_lines(path, file=file, kind="planinfo"), start=1):
        if not line.strip():
            continue
        key, comma, value = line.partition(",")
        key = key.strip()
        if not comma or not key:
            raise CaseFault(
                "a line of the form KEY,VALUE was expected",
                rule="planinfo.value_invalid",
                file=file,
                field=f"line {number}",
            )
        if key in values and values[key] != value.strip():
            raise CaseFault(
                "the key occurs twice with different values",
                rule="planinfo.contradiction",
                file=file,
                field=f"line {number}",
            )
        values[key] = value.strip()
    return values


def read_plan_range(
    path: Path, *, file: str, patients: Sequence[str] = (), field_number: int | None = None
) -> tuple[LayerRecord, ...]:
    """The rows of a PlanRange file, in its order. Raises CaseFault.

    Where a row names its patient or field, it has to be one of `patients`, and `field_number`.
    """
    rows = list(_rows(_lines(path, file=file, kind="planrange"), file))
    if not rows:
        raise CaseFault("the file has no row", rule="planrange.rows", file=file)
    records: list[LayerRecord] = []
    for number, row in enumerate(rows, start=1):
        text = _Text(row, file, "planrange", f"row {number}, ")
        _require_owner(text, patients, field_number)
        name = text.text("SCAN_OUT_FL_NM")
        if not is_safe_name(name) or not name.lower().endswith(".ptn"):
            raise text.fault("SCAN_OUT_FL_NM", "this is not the plain name of a .ptn file", "unsafe_name")
        record = LayerRecord(
            layer=text.integer("LAYER_NO", 1, MAX_LAYER),
            energy_mev=text.number("LAYER_ENERGY"),
            range_codes=(text.integer("DOSE1_RANGE", 0, 255), text.integer("DOSE2_RANGE", 0, 255)),
            log_name=name,
        )
        if any(record.layer == other.layer for other in records):
            raise text.fault("LAYER_NO", f"layer {record.layer} occurs twice", "duplicate_layer")
        if any(record.log_name == other.log_name for other in records):
            raise text.fault("SCAN_OUT_FL_NM", "two layers name the same log", "duplicate_log")
        records.append(record)
    return tuple(records)


def _require_owner(row: _Text, patients: Sequence[str], field_number: int | None) -> None:
    patient, number = ((row.values.get(key) or "").strip() for key in ("PATIENT_ID", "FLD_NO"))
    if patient and patients and patient not in patients:
        raise row.fault("PATIENT_ID", "it differs from the patients that PlanInfo names", "patient_mismatch")
    if number and field_number is not None and row.integer("FLD_NO", 0, 10_000) != field_number:
        words = f"{number} differs from PlanInfo's TCSC_FIELD_NUMBER {field_number}"
        raise row.fault("FLD_NO", words, "field_mismatch")


def _rows(lines: Sequence[str], file: str) -> Iterable[Mapping[str, str]]:
    try:
        reader = csv.DictReader((line for line in lines if line.strip()), strict=True, skipinitialspace=True)
        names = reader.fieldnames or ()
        missing = [name for name in _COLUMNS if name not in names]
        twice = [name for name in _COLUMNS if list(names).count(name) > 1]
        if twice:
            raise CaseFault(
                "the column occurs twice", rule="planrange.contradiction", file=file, field=twice[0]
            )
        if missing:
            raise CaseFault(
                "the column is missing", rule="planrange.column_missing", file=file, field=missing[0]
            )
        for row in reader:
            if None in row or None in row.values():
                raise CaseFault(
                    "the row has another number of values than the header",
                    rule="planrange.rows",
                    file=file,
                    field=f"line {reader.line_num}",
                )
            yield row
    except csv.Error:
        raise CaseFault(
            "the file is not a table of comma-separated values", rule="planrange.unreadable", file=file
        ) from None


def read_delivery(folder: Path, *, name: str) -> Delivery:
    """The delivery in `folder`, called `name` in messages. Raises CaseFault."""
    file = f"{name}/{PLAN_INFO}"
    if not (folder / PLAN_INFO).is_file():
        raise CaseFault("the file is missing", rule="planinfo.missing", file=file)
    info = _Text(read_plan_info(folder / PLAN_INFO, file=file), file, "planinfo")
    table = _table(folder, name)
    patient, other = info.text("DICOM_PATIENT_ID"), (info.values.get("TCSC_PATIENT_ID") or "").strip()
    aliases = tuple(filter(None, [other]))
    field_number = info.integer("TCSC_FIELD_NUMBER", 0, 10_000)
    layers = read_plan_range(
        folder / table, file=f"{name}/{table}", patients=(patient, *aliases), field_number=field_number
    )
    stop = info.integer("STOP_LAYER_NUMBER", 1, MAX_LAYER)
    start = info.integer("START_LAYER_NUMBER", 1, MAX_LAYER) if info.values.get("START_LAYER_NUMBER") else 1
    if start > stop:
        raise info.fault(
            "START_LAYER_NUMBER", f"{start} comes after STOP_LAYER_NUMBER {stop}", "contradiction"
        )
    return Delivery(
        folder=folder.name,
        table=table,
        beam_number=info.integer("DICOM_BEAM_NUMBER", 0, 10_000),
        field_number=field_number,
        stop_layer=stop,
        delivered_at=_delivered_at(info, folder.name),
        layers=layers,
        patient_id=patient,
        study_uid=(info.values.get("DICOM_STUDY_INS_UID") or "").strip(),
        aliases=aliases,
        start_layer=start,
    )


def _table(folder: Path, name: str) -> str:
    """The name of the delivery's PlanRange file; there may be two where they are alike."""
    found = [candidate for candidate in PLAN_RANGES if (folder / candidate).is_file()]
    if not found:
        raise CaseFault("the file is missing", rule="planrange.missing", file=f"{name}/{PLAN_RANGES[0]}")
    lines = [_lines(folder / table, file=f"{name}/{table}", kind="planrange") for table in found]
    if any(other != lines[0] for other in lines[1:]):
        raise CaseFault(
            f"it differs from {found[0]} beside it", rule="planrange.contradiction", file=f"{name}/{found[1]}"
        )
    return found[0]


def _delivered_at(info: _Text, folder: str) -> datetime:
    text = (info.values.get("TCSC_IRRAD_DATETIME") or "").strip()
    for candidate in (text, folder) if not text else (text,):
        digits = candidate.isascii() and candidate.isdigit() and 15 <= len(candidate) <= 20
        try:
            if digits:
                # The room's own clock, without a zone: only differences are ever taken.
                return datetime.strptime(candidate, _TIME_FORM)  # noqa: DTZ007
        except ValueError:
            continue
    raise info.fault("TCSC_IRRAD_DATETIME", "a time YYYYMMDDhhmmssff was expected")


def group(
    deliveries: Iterable[Delivery],
    beams: Iterable[int],
    *,
    now: datetime | None = None,
    window: timedelta = FRACTION_WINDOW,
) -> tuple[Fraction, ...]:
    """Fractions in order of time: a delivery belongs to the one that began less than `window` before it.

    `now` is on the room's clock; a fraction whose window is open then is pending. None: all are closed.
    """
    expected = tuple(dict.fromkeys(beams))
    groups: list[list[Delivery]] = []
    for delivery in sorted(deliveries, key=lambda d: (d.delivered_at, d.folder)):
        if groups and delivery.delivered_at - groups[-1][0].delivered_at < window:
            groups[-1].append(delivery)
        else:
            groups.append([delivery])
    return tuple(_fraction(members, expected, now, window) for members in groups)


def _fraction(
    members: Sequence[Delivery], expected: tuple[int, ...], now: datetime | None, window: timedelta
) -> Fraction:
    earliest: dict[int, Delivery] = {}
    for delivery in members:
        earliest.setdefault(delivery.beam_number, delivery)
    duplicates = [delivery for delivery in members if earliest[delivery.beam_number] is not delivery]
    missing = tuple(number for number in expected if number not in earliest)
    if duplicates or set(earliest) - set(expected):
        state = FractionState.ANOMALY
    elif not missing:
        state = FractionState.COMPLETE
    elif now is not None and now < members[0].delivered_at + window:
        state = FractionState.PENDING
    else:
        state = FractionState.PARTIAL
    return Fraction(state, tuple(earliest.values()), tuple(duplicates), missing)


def reference_fraction(fractions: Sequence[Fraction]) -> Fraction | None:
    """The fraction to compare: the first complete, else partial, else anomalous one; never a pending one."""
    for state in (FractionState.COMPLETE, FractionState.PARTIAL, FractionState.ANOMALY):
        for fraction in fractions:
            if fraction.state is state:
                return fraction
    return None
