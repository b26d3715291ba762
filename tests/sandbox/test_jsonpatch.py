"""RFC 6902: the table of the standard's appendix, and what must be refused."""

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.sandbox.inside.jsonpatch import PatchInvalid, apply_patch

Patch = list[dict[str, Any]]


@pytest.mark.parametrize(
    ("document", "patch", "expected"),
    [
        ({"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux"}], {"baz": "qux", "foo": "bar"}),
        (
            {"foo": ["bar", "baz"]},
            [{"op": "add", "path": "/foo/1", "value": "qux"}],
            {"foo": ["bar", "qux", "baz"]},
        ),
        ({"foo": [1]}, [{"op": "add", "path": "/foo/-", "value": 2}], {"foo": [1, 2]}),
        ({"baz": "qux", "foo": "bar"}, [{"op": "remove", "path": "/baz"}], {"foo": "bar"}),
        ({"foo": ["a", "b", "c"]}, [{"op": "remove", "path": "/foo/1"}], {"foo": ["a", "c"]}),
        ({"foo": "bar"}, [{"op": "replace", "path": "/foo", "value": 1}], {"foo": 1}),
        (
            {"a": {"b": 1}, "c": {}},
            [{"op": "move", "from": "/a/b", "path": "/c/d"}],
            {"a": {}, "c": {"d": 1}},
        ),
        ({"a": [1, 2]}, [{"op": "copy", "from": "/a", "path": "/b"}], {"a": [1, 2], "b": [1, 2]}),
        ({"a/b": {"m~n": 1}}, [{"op": "replace", "path": "/a~1b/m~0n", "value": 2}], {"a/b": {"m~n": 2}}),
        ({"a": 1}, [{"op": "test", "path": "/a", "value": 1}], {"a": 1}),
        ({"a": 1}, [{"op": "add", "path": "", "value": {"b": 2}}], {"b": 2}),
        ({"": 1}, [{"op": "remove", "path": "/"}], {}),
    ],
    ids=[
        "add-member",
        "add-element",
        "append",
        "remove-member",
        "remove-element",
        "replace",
        "move",
        "copy",
        "escapes",
        "test",
        "whole-document",
        "empty-name",
    ],
)
def test_a_patch_does_what_the_standard_says(document: Any, patch: Patch, expected: Any) -> None:
    before = copy.deepcopy(document)
    assert apply_patch(document, patch) == expected
    assert document == before


@pytest.mark.parametrize(
    "patch",
    [
        {"op": "add"},
        [1],
        [{"op": "add", "path": "/b"}],
        [{"op": "add", "path": "b", "value": 1}],
        [{"op": "add", "path": "/x/y", "value": 1}],
        [{"op": "add", "path": "/list/3", "value": 1}],
        [{"op": "add", "path": "/list/01", "value": 1}],
        [{"op": "add", "path": "/a/b", "value": 1}],
        [{"op": "replace", "path": "/b", "value": 1}],
        [{"op": "remove", "path": "/list/2"}],
        [{"op": "remove", "path": "/list/-"}],
        [{"op": "remove", "path": ""}],
        [{"op": "move", "path": "/b"}],
        [{"op": "move", "from": "/deep", "path": "/deep/er"}],
        [{"op": "test", "path": "/a", "value": True}],
        [{"op": "jump", "path": "/a"}],
    ],
    ids=lambda patch: str(patch)[:48],
)
def test_a_patch_that_does_not_fit_is_refused(patch: Any) -> None:
    with pytest.raises(PatchInvalid):
        apply_patch({"a": 1, "list": [1, 2], "deep": {}}, patch)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=60)
@given(
    document=st.dictionaries(st.text(max_size=3), _JSON, max_size=4), name=st.text(max_size=4), value=_JSON
)
def test_adding_then_removing_a_member_gives_the_document_back(document: Any, name: str, value: Any) -> None:
    path = "/" + name.replace("~", "~0").replace("/", "~1")
    added = apply_patch(document, [{"op": "add", "path": path, "value": value}])
    assert added == {**document, name: value}
    removed = apply_patch(added, [{"op": "remove", "path": path}])
    assert removed == {key: item for key, item in document.items() if key != name}
