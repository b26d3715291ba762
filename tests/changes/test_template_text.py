"""Text to tree: YAML and JSON as CloudFormation reads them, lines, and what no text may do to us."""

import contextlib
import json
import resource
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.changes.model import Fault
from fairlead.changes.template import TemplateInvalid, load
from fairlead.changes.template.document import Unreadable, line_at
from fairlead.changes.template.jsontext import JsonReader
from fairlead.changes.template.reading import read
from fairlead.changes.template.yamltext import YamlReader
from tests.changes.template_text import LIMIT, SHOP, bound, faults, topic


def tree(text: str) -> Any:
    found: list[Fault] = []
    result = read(text.encode(), max_bytes=LIMIT, faults=found)
    assert found == []
    return result


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("2012-10-17", "2012-10-17", id="a date stays text"),
        pytest.param("2012-10-17T10:00:00Z", "2012-10-17T10:00:00Z", id="a time stays text"),
        pytest.param("0644", "0644", id="an octal stays text"),
        pytest.param("0x1F", "0x1F", id="a hexadecimal stays text"),
        pytest.param("012345678901", "012345678901", id="an account id with a zero in front stays text"),
        pytest.param("190:20:30", "190:20:30", id="sexagesimal stays text"),
        pytest.param("1_000", "1_000", id="underscores stay text"),
        pytest.param("42", 42, id="integer"),
        pytest.param("-1", -1, id="negative integer"),
        pytest.param("0.5", 0.5, id="float"),
        pytest.param("yes", True, id="yes is true, as in YAML 1.1"),
        pytest.param("off", False, id="off is false, as in YAML 1.1"),
        pytest.param("'yes'", "yes", id="quoted yes is text"),
        pytest.param("y", "y", id="y is text"),
        pytest.param("!!str 42", "42", id="tagged as text"),
        pytest.param("! 42", "42", id="the non-specific tag means text"),
        pytest.param("!!int '42'", 42, id="tagged as a number"),
        pytest.param("~", None, id="null"),
        pytest.param("!Ref A", {"Ref": "A"}, id="Ref"),
        pytest.param("!GetAtt A.B.C", {"Fn::GetAtt": ["A", "B.C"]}, id="GetAtt with a nested attribute"),
        pytest.param("!GetAtt [A, B]", {"Fn::GetAtt": ["A", "B"]}, id="GetAtt as a list"),
        pytest.param("!Condition A", {"Condition": "A"}, id="Condition"),
        pytest.param("!Join ['-', [a, !Ref B]]", {"Fn::Join": ["-", ["a", {"Ref": "B"}]]}, id="nested tags"),
        pytest.param("!GetAZs ''", {"Fn::GetAZs": ""}, id="an empty argument"),
        pytest.param("!Cidr {a: b}", {"Fn::Cidr": {"a": "b"}}, id="a tag on a map"),
    ],
)
def test_yaml_scalars_and_short_tags_are_read_as_cloudformation_reads_them(text: str, value: Any) -> None:
    assert tree(f"key: {text}")["key"] == value


@pytest.mark.parametrize("text", ["5.10", "1.0", "3.50"])
def test_a_decimal_keeps_its_text_because_versions_are_written_so(text: str) -> None:
    data = (
        topic(text) + "  D:\n    Type: AWS::RDS::DBInstance\n    Properties: {EngineVersion: " + text + "}\n"
    )
    resources = bound(data).resources
    assert resources["D"].properties["EngineVersion"] == text
    assert resources["T"].properties["DisplayName"] == text


def test_keys_are_always_text() -> None:
    assert tree("a:\n  123456789012: x\n  yes: y\n  2012-10-17: z") == {
        "a": {"123456789012": "x", "yes": "y", "2012-10-17": "z"}
    }


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_every_key_and_item_knows_its_line(form: str) -> None:
    if form == "yaml":
        found = tree("A:\n  B: 1\n  # why\n  C:\n    - x\n    - D: y\n")
        lines = {("A",): 1, ("A", "B"): 2, ("A", "C"): 4, ("A", "C", 0): 5, ("A", "C", 1, "D"): 6}
    else:
        found = tree('{"A": {\n "B": 1,\n\n "C": [\n  "x",\n  {"D": "y"}]}}')
        lines = {("A",): 1, ("A", "B"): 2, ("A", "C"): 4, ("A", "C", 0): 5, ("A", "C", 1, "D"): 6}
    assert {path: line_at(found, path) for path in lines} == lines
    assert line_at(found, ("A", "C", 9, "nothing")) == 4


def test_anchors_and_aliases_are_followed() -> None:
    assert tree("a: &x {b: 1}\nc: [*x, *x]") == {"a": {"b": 1}, "c": [{"b": 1}, {"b": 1}]}


def test_text_that_begins_with_a_bracket_but_is_yaml_is_read_as_yaml() -> None:
    assert tree("{a: !Ref B, c: [d]}") == {"a": {"Ref": "B"}, "c": ["d"]}


def test_a_byte_order_mark_is_skipped() -> None:
    data = b"\xef\xbb\xbf" + json.dumps({"Resources": {"T": {"Type": "AWS::SNS::Topic"}}}).encode()
    assert load(data, max_bytes=LIMIT).document["Resources"]["T"]["Type"] == "AWS::SNS::Topic"


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(10**20), 10**20)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=20,
    ),
    st.sampled_from([None, 1]),
)
@settings(max_examples=150, deadline=None)
def test_json_is_read_as_the_standard_library_reads_it(value: Any, indent: int | None) -> None:
    text = json.dumps([value], indent=indent, ensure_ascii=indent is None)
    if "\\u0000" in text or "\0" in text:
        return
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    faults_found: list[Fault] = []
    found = read(text.encode(), max_bytes=LIMIT, faults=faults_found)
    if not faults_found:
        assert found == json.loads(text)
    else:
        assert {fault.code for fault in faults_found} <= {"template.encoding"}


BAD = [
    pytest.param(b"", "empty", None, id="nothing"),
    pytest.param(b"  \n \n", "empty", None, id="only space"),
    pytest.param(b"# only a comment\n", "empty", None, id="only a comment"),
    pytest.param(b"a: b\n c: d\n", "syntax", 2, id="wrong indent"),
    pytest.param(b"a: [1, 2\nb: 3\n", "syntax", 2, id="open bracket"),
    pytest.param(b"a: 'x\n", "syntax", 2, id="open quote"),
    pytest.param(b"a: b\n\tc: d\n", "syntax", 2, id="tab as indent"),
    pytest.param(b'{"a": 1,\n"b" 2}', "syntax", 2, id="JSON without a colon"),
    pytest.param(b'{"a": 1,\n"b": 2', "syntax", 2, id="JSON that ends too soon"),
    pytest.param(b'{"a": NaN}', "number", 1, id="NaN"),
    pytest.param(b'{"a":\n -Infinity}', "number", 2, id="Infinity"),
    pytest.param(b'{"a": 1e999}', "number", 1, id="a number out of range"),
    pytest.param(b"a: 1\nb: .nan\n", "number", 2, id="YAML NaN"),
    pytest.param(b"a: 1\nb: " + b"9" * 5000, "number", 2, id="a number of 5,000 digits"),
    pytest.param(b"a: \xff\xfe\n", "encoding", 1, id="not UTF-8"),
    pytest.param("a: ü\nb: c".encode("latin-1"), "encoding", 1, id="Latin-1"),
    pytest.param("a: b".encode("utf-16"), "encoding", 1, id="UTF-16"),
    pytest.param(b"a: b\nc: \0\n", "encoding", 2, id="NUL"),
    pytest.param(b'{"a": "\\ud800"}', "encoding", 1, id="half a surrogate pair"),
    pytest.param(b"a: b\n---\nc: d\n", "syntax", 2, id="two documents"),
    pytest.param(b"a: !Foo b\n", "unsupported", 1, id="unknown tag"),
    pytest.param(b"a: 1\nb: !!python/object/apply:os.system [ls]\n", "unsupported", 2, id="Python tag"),
    pytest.param(b"a: !!binary aGk=\n", "unsupported", 1, id="binary tag"),
    pytest.param(b"a: &x {b: 1}\nc:\n  <<: *x\n", "unsupported", 3, id="merge key"),
    pytest.param(b"? [a, b]\n: c\n", "key", 1, id="a list as a key"),
    pytest.param(b"a: b\n~: c\n", "key", 2, id="null as a key"),
    pytest.param(b"a: b\n!Ref x: c\n", "key", 2, id="a function as a key"),
    pytest.param(b"a: *nothing\n", "syntax", 1, id="alias to nothing"),
    pytest.param(b"a: &x [*x]\n", "syntax", 1, id="alias to itself"),
    pytest.param(b"a: 1\nb: 2\na: 3\n", "duplicate_key", 3, id="duplicate key"),
    pytest.param(b'{"a": 1,\n"a": 2}', "duplicate_key", 2, id="duplicate key in JSON"),
    pytest.param(b"[" * 101 + b"]" * 101, "too_deep", 1, id="JSON too deep"),
    pytest.param(b"a: " + b"[" * 100_000, "too_deep", 1, id="YAML much too deep"),
    pytest.param(b"- " * 5000 + b"x", "too_deep", 1, id="blocks too deep"),
]


@pytest.mark.parametrize(("data", "code", "line"), BAD)
def test_unusable_text_is_a_fault_with_its_line(data: bytes, code: str, line: int | None) -> None:
    with pytest.raises(TemplateInvalid) as caught:
        load(data, max_bytes=LIMIT)
    assert (f"template.{code}", line) in [(fault.code, fault.line) for fault in caught.value.faults]
    assert caught.value.code == "template.invalid"
    assert caught.value.status == 422
    assert caught.value.details["faults"][0].keys() == {"path", "line", "code", "message"}


@pytest.mark.parametrize(
    ("data", "path"),
    [
        pytest.param("A:\n  B:\n    c: 1\n    c: 2\n", "A.B.c", id="a key, in YAML"),
        pytest.param('{"A": {"B": [{"c": 1, "c": 2}]}}', "A.B.0.c", id="a key, in JSON"),
        pytest.param("A:\n- x\n- B: {c: 1, c: [1, 2]}\n", "A.1.B.c", id="a key in a list"),
        pytest.param("A: {B: !Join [x, [{c: 1, c: 2}]]}", "A.B.1.0.c", id="a key in a function"),
        pytest.param("A: [1, {B: " + "9" * 50 + "}]", "A.1.B", id="a number, in YAML"),
        pytest.param('{"A": [1, {"B": 1e999}]}', "A.1.B", id="a number, in JSON"),
        pytest.param("A: [a, !Foo b]", "A.1", id="a tag in a list"),
    ],
)
def test_faults_of_the_text_name_the_way_to_their_place(data: str, path: str) -> None:
    found: list[Fault] = []
    read(data.encode(), max_bytes=LIMIT, faults=found)
    assert [fault.path for fault in found] == [path]


def test_all_faults_of_a_text_are_reported_not_just_the_first() -> None:
    text = topic("!Ref Nothing") + "      DisplayName: x\n      TopicName: !Wrong y\nOther: 1\n"
    assert [(code, line) for code, line, _ in faults(text)] == [
        ("unknown_reference", 5),
        ("duplicate_key", 6),
        ("unsupported", 7),
        ("structure", 8),
    ]


def laughs(depth: int = 30, width: int = 9) -> bytes:
    lines = ["a0: &a0 [ha, ha, ha]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, depth)]
    return "\n".join(lines).encode()


def deep_aliases(count: int = 400) -> bytes:
    lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, count)]
    return "\n".join(lines).encode()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(laughs(), "too_large", id="billion laughs"),
        pytest.param(deep_aliases(), "too_deep", id="a tower of aliases"),
        pytest.param(b"x" * (20 * 1024 * 1024), "too_large", id="20 MB"),
    ],
)
def test_bombs_are_refused_in_no_time_and_no_memory(data: bytes, code: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    with pytest.raises(TemplateInvalid) as caught:
        load(data, max_bytes=LIMIT)
    assert caught.value.faults[0].code == f"template.{code}"
    assert time.process_time() - started < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024


@pytest.mark.parametrize("reader", [JsonReader, YamlReader])
def test_the_number_of_values_is_limited(reader: type[JsonReader | YamlReader]) -> None:
    small, large = "[" + "[]," * 997 + "[]]", "[" + "[]," * 1000 + "[]]"
    assert len(reader(small, [], max_nodes=1000).document()) == 998
    with pytest.raises(Unreadable) as caught:
        reader(large, [], max_nodes=1000).document()
    assert (caught.value.fault.code, caught.value.fault.line) == ("template.too_large", 1)


PIECES = st.sampled_from(
    [
        *(
            "Resources:",
            "Type",
            "Properties",
            "AWS::SNS::Topic",
            "!Ref",
            "!Sub",
            "!GetAtt",
            "!If",
            "[",
            "]",
            "{",
            "}",
        ),
        *(
            ",",
            ":",
            "- ",
            "'",
            '"',
            "&",
            "*",
            "|",
            ">",
            "#",
            "?",
            "!",
            "%",
            "@",
            "\n",
            "\n  ",
            "\t",
            "a",
            "T",
            "Ref",
        ),
        *(
            "Fn::Sub",
            "Fn::If",
            "Fn::Cidr",
            "${T.Arn}",
            "0",
            "1.5",
            "true",
            "null",
            "Conditions:",
            "Parameters:",
        ),
        *("Outputs:", "<<", "&x", "*x", "---"),
    ]
)
NOISE = st.binary(max_size=200) | st.text(max_size=200).map(str.encode)


@given(NOISE | st.lists(PIECES, max_size=40).map(lambda pieces: " ".join(pieces).encode()))
@settings(max_examples=300, deadline=None)
def test_no_bytes_raise_anything_but_template_invalid(data: bytes) -> None:
    with contextlib.suppress(TemplateInvalid):
        bound(data)


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_no_damage_to_a_real_template_raises_anything_but_template_invalid(data: st.DataObject) -> None:
    text = SHOP.read_text()
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        end = min(len(text), at + data.draw(st.integers(0, 30)))
        text = text[:at] + data.draw(PIECES) + text[end:]
    with contextlib.suppress(TemplateInvalid):
        bound(text, {"DatabasePassword": "correct horse battery"})
