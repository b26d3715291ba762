"""DICOM files from outside, read with care: what is wrong with one becomes a CaseFault with file and field.

Values are never quoted in messages unless they are numbers: any text of a DICOM file may identify a patient.
"""

import io
import math
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom import config as pydicom_config
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_dataset, read_preamble

from fairlead.cases.folders import MAX_DICOM_BYTES, read_bytes
from fairlead.cases.model import CaseFault, CaseUnsupported

# pydicom quotes values in its warnings and log lines; values may be names of patients.
pydicom_config.settings.reading_validation_mode = pydicom_config.IGNORE
pydicom_config.logger.setLevel("CRITICAL")

# What the parser was seen to raise on damaged files. A bug of ours must not hide behind this list:
# only calls into pydicom are guarded by it.
PARSER_FAULTS: tuple[type[Exception], ...] = (
    InvalidDicomError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    BytesLengthException,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)

_PLAIN = {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1"}  # little endian, implicit and explicit
SOP_ION_PLAN = "1.2.840.10008.5.1.4.1.1.481.8"
SOP_CT = "1.2.840.10008.5.1.4.1.1.2"
SOP_DOSE = "1.2.840.10008.5.1.4.1.1.481.2"


@contextmanager
def guarded(fault: CaseFault) -> Iterator[None]:
    """Whatever the parser raises within becomes `fault`; its warnings, which quote values, are dropped."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except PARSER_FAULTS:
        raise fault from None


@dataclass(frozen=True, slots=True)
class Record:
    """A data set, or an item of a sequence, with its place for messages."""

    dataset: Dataset
    file: str
    kind: str  # plan, ct or dose: first half of the rule's name
    path: str = ""  # of the item: "IonBeamSequence[0]."

    def fault(self, keyword: str, message: str, *, rule: str = "field_invalid") -> CaseFault:
        """A CaseFault about the element `keyword` of this record."""
        return CaseFault(message, rule=f"{self.kind}.{rule}", file=self.file, field=f"{self.path}{keyword}")

    def unsupported(self, keyword: str, message: str, *, rule: str = "unsupported") -> CaseUnsupported:
        """A CaseUnsupported about the element `keyword` of this record."""
        return CaseUnsupported(
            message, rule=f"{self.kind}.{rule}", file=self.file, field=f"{self.path}{keyword}"
        )

    def _raw(self, keyword: str) -> object:
        with guarded(self.fault(keyword, "the value cannot be decoded")):
            return self.dataset.get(keyword)

    def has(self, keyword: str) -> bool:
        """Whether the element is there with a value."""
        value = self._raw(keyword)
        return value is not None and value != "" and not (isinstance(value, Sequence) and len(value) == 0)

    def has_private(self) -> bool:
        """Whether there are private elements in it."""
        with guarded(self.fault("", "the item cannot be decoded")):
            return any(
                element.tag.is_private and not element.tag.is_private_creator for element in self.dataset
            )

    def text(self, keyword: str, default: str | None = None) -> str:
        """One string; `default` where the element is absent or empty."""
        value = self._raw(keyword)
        if value is None or value == "":
            if default is None:
                raise self.fault(keyword, "the element is missing or empty", rule="field_missing")
            return default
        if isinstance(value, Sequence) and not isinstance(value, str):
            raise self.fault(keyword, "one value was expected, several were found")
        with guarded(self.fault(keyword, "the value cannot be decoded")):
            return str(value).strip()

    def numbers(
        self, keyword: str, count: int | None = None, *, default: tuple[float, ...] | None = None
    ) -> tuple[float, ...]:
        """Finite numbers, `count` of them."""
        value = self._raw(keyword)
        if value is None or value == "" or (isinstance(value, Sequence) and len(value) == 0):
            if default is None:
                raise self.fault(keyword, "the element is missing or empty", rule="field_missing")
            return default
        parts = value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else [value]
        with guarded(self.fault(keyword, "a number was expected")):
            result = tuple(float(str(part)) for part in parts)
        if not all(math.isfinite(number) for number in result):
            raise self.fault(keyword, "the number is not finite")
        if count is not None and len(result) != count:
            raise self.fault(keyword, f"{count} numbers were expected, {len(result)} were found")
        return result

    def number(self, keyword: str, default: float | None = None) -> float:
        """One finite number."""
        return self.numbers(keyword, 1, default=None if default is None else (default,))[0]

    def integer(self, keyword: str, default: int | None = None, *, low: int = 0, high: int = 2**31) -> int:
        """One whole number within `low` … `high`."""
        value = self.number(keyword, None if default is None else float(default))
        if value != int(value) or not low <= value <= high:
            raise self.fault(
                keyword, f"a whole number from {low} to {high} was expected, {value:g} was found"
            )
        return int(value)

    def items(self, keyword: str, *, required: bool = True) -> list["Record"]:
        """The items of a sequence."""
        value = self._raw(keyword)
        if value is None or (isinstance(value, Sequence) and len(value) == 0):
            if required:
                raise self.fault(keyword, "the sequence is missing or empty", rule="field_missing")
            return []
        if not isinstance(value, pydicom.Sequence):
            raise self.fault(keyword, "a sequence was expected")
        return [
            Record(item, self.file, self.kind, f"{self.path}{keyword}[{index}].")
            for index, item in enumerate(value)
        ]


def read(path: Path, *, file: str, kind: str, limit: int = MAX_DICOM_BYTES) -> Record:
    """The data set in `path`. Raises CaseFault; CaseUnsupported for compressed ones."""
    content = read_bytes(path, file=file, limit=limit, kind=kind)
    with guarded(CaseFault("this is not a DICOM file", rule=f"{kind}.unreadable", file=file)):
        syntax = _transfer_syntax(content)
    # A deflated file of 64 MB may inflate to 64 GB, and compressed pixels need decoders: neither is read.
    if syntax not in _PLAIN:
        raise CaseUnsupported(
            "only uncompressed little-endian transfer syntaxes are supported",
            rule=f"{kind}.unsupported",
            file=file,
            field="TransferSyntaxUID",
        )
    with guarded(CaseFault("the DICOM file is damaged", rule=f"{kind}.unreadable", file=file)):
        return Record(pydicom.dcmread(io.BytesIO(content)), file, kind)


def _transfer_syntax(content: bytes) -> str:
    """What the file's header says, without touching the data set behind it."""
    stream = io.BytesIO(content)
    if read_preamble(stream, False) is None:
        raise InvalidDicomError
    header = read_dataset(stream, False, True, stop_when=lambda tag, _vr, _length: tag >> 16 != 2)
    return str(header.get("TransferSyntaxUID", ""))


def pixels(record: Record, *, count: int) -> bytes:
    """The raw pixel data, of exactly `count` bytes (one byte of padding apart)."""
    data = record._raw("PixelData")
    if not isinstance(data, bytes):
        raise record.fault("PixelData", "the element is missing or empty", rule="field_missing")
    if not count <= len(data) <= count + 1:
        raise record.fault("PixelData", f"{count} bytes were expected, {len(data)} were found")
    return data[:count]
