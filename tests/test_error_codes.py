"""The codes in the code and the codes in the documentation are the same."""

import re
from collections import Counter

from tests import error_codes


def test_the_reference_lists_every_error_as_the_code_defines_it() -> None:
    expected, documented = error_codes.table().splitlines(), error_codes.documented().splitlines()
    missing = [line for line in expected if line not in documented]
    gone = [line for line in documented if line not in expected]
    remedy = "Run: .venv/bin/python -m tests.error_codes"
    difference = "\n".join([remedy, "missing:", *missing, "not in the code:", *gone])
    assert documented == expected, difference


def test_codes_are_dotted_unique_and_explained() -> None:
    classes = error_codes.classes()
    assert len(classes) > 20
    codes = Counter(one.code for one in classes)
    assert [code for code, times in codes.items() if times > 1] == []
    for one in classes:
        assert re.fullmatch(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)?", one.code), one
        assert 400 <= one.status < 600, one
        assert "__doc__" in vars(one), one
        assert vars(one)["__doc__"], one
