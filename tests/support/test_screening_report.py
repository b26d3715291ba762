"""The screening report: nothing that a customer wrote can become markup or a formula."""
# Rows of tables and JavaScript stay on one line; texts are what users type.
# ruff: noqa: E501, RUF001

import csv
import io
import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.support.findings import difference
from fairlead.support.markup import element, joined, link
from fairlead.support.model import Language, Screening, Severity, Status, Suppression, Unread
from fairlead.support.screening_report import (
    COLUMNS,
    MAX_ROWS,
    render_csv,
    render_html,
    render_json,
    safe_cell,
)
from fairlead.support.screening_words import WORDS, severity_word
from tests.support.screenings import DAY, HOSTILE, customer, finding, screening

TAGS = frozenset(
    [
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "main",
        "header",
        "h1",
        "h2",
        "h3",
        "ul",
        "li",
        "b",
        "section",
        "div",
        "span",
        "svg",
        "circle",
        "rect",
        "text",
        "p",
        "details",
        "summary",
        "dl",
        "dt",
        "dd",
        "code",
        "a",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
    ]
)


class Reader(HTMLParser):
    """Every tag and attribute of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]

    def handle_data(self, data: str) -> None:
        self.text += data


def hostile(text: str) -> Screening:
    return screening(
        finding(uid=text, title=text, detail=text, rationale=text, remediation=text, references=(text, f"javascript:{text}", f"https://x/{text}"),
                compliance={text: (text,)}, pillars=(text,), region=text, type=text),
        finding(check=text or "x", status=Status.UNREAD, detail=text),
        unread=(Unread(service=text, region=text, reason=text),),
        engine=text, regions=(text,),
    )  # fmt: skip


def suppressed(text: str) -> Suppression:
    return Suppression(check="s3.bucket_public_access", reason=text, author=text, expires=DAY)


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(
        st.just(HOSTILE), st.text(max_size=40), st.text(alphabet="<>\"'&/=`{}svgonloadscript", max_size=40)
    ),
    st.sampled_from(Language),
    st.booleans(),
)
def test_hostile_text_stays_text(text: str, language: Language, accepted: bool) -> None:
    whole = hostile(text)
    change = difference(None, whole, [suppressed(text)] if accepted else [], on=DAY)
    page = render_html(whole, change, language)
    read = Reader(page)
    assert read.tags <= TAGS
    assert not any(name.startswith("on") or name == "style" for name in read.attributes)
    assert all(address.startswith("https://") for address in read.links)
    page.encode("utf-8")


def test_the_page_needs_nothing_from_anywhere_and_its_policy_says_so() -> None:
    _, now, accepted = customer()
    page = render_html(now, difference(None, now, accepted, on=DAY), Language.ENGLISH)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    assert policy is not None
    assert "default-src &#x27;none&#x27;" in policy[1]
    assert "unsafe" not in policy[1]
    assert "script" not in Reader(page).tags
    assert not re.search(r"@import|url\(", page)


def test_the_style_in_the_page_is_the_one_that_the_policy_allows() -> None:
    from base64 import b64encode
    from hashlib import sha256
    from html import unescape

    page = render_html(screening(), difference(None, screening(), on=DAY), Language.KOREAN)
    style = page.split("<style>")[1].split("</style>")[0]
    assert f"'sha256-{b64encode(sha256(style.encode()).digest()).decode()}'" in unescape(page)


@pytest.mark.parametrize("language", list(Language))
def test_the_report_says_what_is_new_fixed_accepted_lapsed_and_unread(language: Language) -> None:
    before, now, accepted = customer()
    text = Reader(render_html(now, difference(before, now, accepted, on=DAY), language)).text
    word = WORDS[language]
    for part in ("fixed_h", "unknown_h", "accepted_h", "unread_h", "lapsed"):
        assert word[part] in text
    assert "region is switched off" in text
    assert "rotated by hand each January" in text
    assert severity_word(Severity.CRITICAL, language) in text


def test_a_clean_screening_says_so_and_an_unread_one_does_not_count_as_passed() -> None:
    unread = screening(finding(status=Status.UNREAD), complete=False)
    text = Reader(render_html(unread, difference(None, unread, on=DAY), Language.ENGLISH)).text
    assert "No check failed on what could be read." in text
    assert "stopped before it was done" in text
    assert re.search(r"0passed", text)
    assert re.search(r"1not read", text)


def test_many_resources_of_one_check_are_cut_with_the_number_left() -> None:
    many = screening(*(finding(uid=f"b{n}") for n in range(MAX_ROWS + 25)))
    change = difference(None, many, on=DAY)
    assert "and 25 more" in Reader(render_html(many, change, Language.ENGLISH)).text
    assert len(list(csv.reader(io.StringIO(render_csv(many, change))))) == MAX_ROWS + 26


def test_both_languages_have_the_same_words() -> None:
    assert WORDS[Language.ENGLISH].keys() == WORDS[Language.KOREAN].keys()
    assert all(text.strip() for words in WORDS.values() for text in words.values())


@pytest.mark.parametrize(
    ("cell", "safe"),
    [
        ("plain", "plain"),
        ("a=b", "a=b"),
        ("", ""),
        ("=1+1", "'=1+1"),
        ("+82", "'+82"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("  =1", "'  =1"),
        ("\t=1", "'\t=1"),
        ("\r=1", "' =1"),
        ("\n=1", "'\n=1"),
        ("＝1", "'＝1"),
        ("|cmd", "'|cmd"),
        ("\ufeff=1", "'\ufeff=1"),
        ("a\x00b", "a\ufffdb"),
    ],
    ids=repr,
)
def test_a_cell_is_never_a_formula(cell: str, safe: str) -> None:
    assert safe_cell(cell) == safe


@settings(max_examples=80, deadline=None)
@given(st.text(max_size=30).map(lambda text: text.replace("\r", "")))
def test_the_table_can_be_read_back_and_holds_no_formula(text: str) -> None:
    whole = hostile(text)
    table = render_csv(whole, difference(None, whole, [suppressed(text)], on=DAY))
    rows = list(csv.reader(io.StringIO(table, newline="")))
    assert rows[0] == list(COLUMNS)
    assert [len(row) for row in rows] == [len(COLUMNS)] * 3
    for cell in (cell for row in rows for cell in row):
        assert not cell.lstrip(" \n\t\u00a0\u3000\ufeff").startswith(tuple("=+-@＝＋－＠|%"))
    table.encode("utf-8")


def test_the_document_holds_counts_and_findings() -> None:
    before, now, accepted = customer()
    value = json.loads(render_json(now, difference(before, now, accepted, on=DAY)))
    assert value["counts"]["failed"] == value["counts"]["new"] + value["counts"]["unchanged"]
    assert value["counts"]["accepted"] == 2
    assert len(value["screening"]["findings"]) == len(now.findings)


def test_only_element_makes_markup() -> None:
    assert joined("<b>") == "&lt;b&gt;"
    assert element("p", {"title": '"><script>'}, "&") == '<p title="&quot;&gt;&lt;script&gt;">&amp;</p>'
    assert link("javascript:alert(1)") == "javascript:alert(1)"
    assert joined(joined("<")) == "&lt;"
