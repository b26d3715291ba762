"""General questions: answered from the corpus with a source, or honestly not."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.support.general import answer, corpus
from fairlead.support.language import QuestionTooLong, QuestionUnreadable
from fairlead.support.model import Language


@pytest.mark.parametrize(
    ("question", "entry"),
    [
        ("What is the difference between S3 Standard and Glacier?", "s3-storage-classes"),
        ("S3 스토리지 클래스 차이가 뭔가요?", "s3-storage-classes"),
        ("How do I enable MFA for a user?", "iam-mfa"),
        ("MFA 설정하는 법 알려주세요", "iam-mfa"),
        ("보안그룹과 NACL은 어떻게 다른가요", "security-group-vs-nacl"),
        ("Explain security groups versus network ACLs", "security-group-vs-nacl"),
        ("람다 콜드 스타트를 줄이려면?", "lambda-cold-start"),
        ("what is a cold start in lambda", "lambda-cold-start"),
        ("lambda timeout maximum", "lambda-limits"),
        ("RDS 다중 AZ가 뭐예요?", "rds-multi-az"),
        ("VPC 피어링 설정 방법", "vpc-peering"),
        ("How can I reduce my AWS bill?", "cost-reduction"),
        ("KMS 키 교체 주기", "kms-rotation"),
        ("our access key leaked on GitHub", "iam-leaked-key"),
        ("502 오류가 나요 로드밸런서", "elb-5xx"),
        ("리전과 가용 영역의 차이", "region-and-az"),
        ("connect to an instance without ssh", "ec2-connect-without-ssh"),
    ],
)
def test_a_question_finds_its_entry(question: str, entry: str) -> None:
    found = answer(question)
    assert found.entry is not None
    assert found.entry.id == entry
    document = found.document()
    assert document["answer"] == found.entry.texts[found.language]
    assert document["sources"] == [{"title": found.entry.titles[found.language], "url": found.entry.source}]


@pytest.mark.parametrize(
    "question",
    [
        "what's the weather in Seoul",
        "오늘 날씨 어때",
        "how do I cook rice",
        "환불해 주세요",
        "How do I set up AWS Ground Station?",
        "What is Amazon Polly?",
        "SageMaker 학습 작업 방법",
        "how do I reset my Zendesk password",
        "hello",
        "안녕하세요",
        "???",
    ],
)
def test_what_the_corpus_does_not_cover_is_not_answered(question: str) -> None:
    document = answer(question).document()
    assert document["answer"] is None
    assert document["reason"]


def test_the_reason_is_in_the_language_of_the_question() -> None:
    assert "오프라인" in str(answer("오늘 날씨 어때").reason)
    assert "offline" in str(answer("the weather").reason)


def test_every_entry_is_complete_in_both_languages_and_has_an_aws_source() -> None:
    assert len(corpus()) >= 60
    assert len({entry.id for entry in corpus()}) == len(corpus())
    for entry in corpus():
        assert re.fullmatch(r"https://(docs\.)?aws\.amazon\.com/\S+", entry.source), entry.id
        for language in Language:
            assert entry.titles[language], entry.id
            assert 60 < len(entry.texts[language]) < 700, entry.id
        assert re.search("[가-힣]", entry.texts[Language.KOREAN]), entry.id
        assert not re.search("[가-힣]", entry.texts[Language.ENGLISH]), entry.id


def test_every_entry_is_found_by_its_own_title() -> None:
    for entry in corpus():
        for language in Language:
            found = answer(entry.titles[language]).entry
            assert found is not None, (entry.id, language)
            assert found.id == entry.id, (entry.id, language, found.id)


@settings(max_examples=80, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_answered_with_a_source_or_not_at_all(text: str) -> None:
    try:
        document = answer(text).document()
    except (QuestionTooLong, QuestionUnreadable):
        return
    assert set(document) in ({"answer", "sources", "confidence"}, {"answer", "reason"})
    assert answer(text).document() == document
