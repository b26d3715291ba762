"""What the schemas cannot tell: transforms, references, and the tables that name types."""

import pytest

from fairlead.changes.types.references import REF
from fairlead.changes.types.traits import FREE, STATEFUL, USAGE_BASED
from fairlead.changes.types.transforms import gives_back
from tests.changes.plan_factory import registry


@pytest.mark.parametrize(
    ("expression", "value", "live", "expected"),
    [
        pytest.param("$lowercase(Name)", "MyDB", "mydb", True, id="lower"),
        pytest.param("$lowercase(Name)", "MyDB", "MyDB", False, id="not lowered"),
        pytest.param("$uppercase(Mode)", "ram", "RAM", True, id="upper"),
        pytest.param("$lowercase(N) $OR $uppercase(N)", "aB", "AB", True, id="either"),
        pytest.param("$lowercase(N) $OR $uppercase(N)", "aB", "Ab", False, id="neither"),
        pytest.param('Name $OR $join([Name, "."])', "example.org", "example.org.", True, id="a dot appended"),
        pytest.param('$lowercase($join([Name, "."]))', "A", "a.", True, id="one inside the other"),
        pytest.param('$join([$string(V), ".*"])', "8.0", "8.0.35", True, id="a version completed"),
        pytest.param('$join([$string(V), ".*"])', "8.0", "8x0", False, id="a dot in a value is a dot"),
        pytest.param('$split(F, ":")[-1]', "a:b:c", "c", True, id="last part"),
        pytest.param('$split(F, ":")[5]', "a:b:c", "c", False, id="no such part"),
        pytest.param(
            '$join(["arn:.+?:kms:.+?:.+?:key\\\\/", K])',
            "1-2",
            "arn:aws:kms:eu:1:key/1-2",
            True,
            id="an ARN around it",
        ),
        pytest.param('"vpc"', "standard", "vpc", True, id="a constant"),
        pytest.param('"("', "a", "(", False, id="a pattern that is none"),
        pytest.param("Value * 1000", "1", "1000", False, id="arithmetic is not understood"),
    ],
)
def test_transforms_tell_what_aws_gives_back(expression: str, value: str, live: str, expected: bool) -> None:
    assert gives_back(expression, value, live) is expected


def test_most_transforms_of_a_shipped_schema_are_understood() -> None:
    kind = registry().get("AWS::RDS::DBInstance")
    forms = ("abc", "ABC", "AbC.1", "arn:aws:kms:eu-west-1:1:key/AbC")
    understood = [
        any(gives_back(e, "AbC", form) for form in forms) for e in kind.property_transforms.values()
    ]
    assert sum(understood) >= len(understood) * 9 // 10


@pytest.mark.parametrize("type_name", sorted(REF))
def test_every_special_ref_names_a_part_or_attribute_of_its_type(type_name: str) -> None:
    kind = registry().get(type_name)
    assert REF[type_name] in kind.primary_identifier or kind.has_attribute(REF[type_name])


@pytest.mark.parametrize("type_name", sorted(STATEFUL | FREE | USAGE_BASED))
def test_the_tables_name_types_that_exist(type_name: str) -> None:
    assert registry().find(type_name) is not None
