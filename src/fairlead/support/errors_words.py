"""What went wrong, for agents: by category, in their language, with what to do next.

The code stays what it was; what the error said itself stays too, for whoever looks after the server.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fairlead.support.model import Language


@dataclass(frozen=True, slots=True)
class Words:
    """A title, a sentence and what to do next."""

    title: str
    detail: str
    remedy: str


# The longest prefix of a code decides; "" is everything else.
CATEGORIES: Mapping[str, str] = {
    "auth.": "permission",
    "auth.agent_session_": "session",
    "auth.installation_": "session",
    "auth.unauthenticated": "session",
    "auth.zendesk_token_": "session",
    "call.": "busy",
    "database.": "storage",
    "input.": "input",
    "mcp.": "tools",
    "objects.": "storage",
    "toolenv.": "tools",
    "unavailable": "busy",
    "support.access_": "access",
    "support.access_throttled": "busy",
    "support.access_unavailable": "busy",
    "support.account_": "customer",
    "support.account_unreachable": "access",
    "support.answer_": "model",
    "support.ask_deadline": "deadline",
    "support.aws_": "aws",
    "support.aws_denied": "denied",
    "support.customer_": "customer",
    "support.link_": "gone",
    "support.model_": "model",
    "support.month": "input",
    "support.project_closed": "permission",
    "support.question_": "input",
    "support.rate_limited": "busy",
    "support.record_": "gone",
    "support.region_": "input",
    "support.report_deadline": "deadline",
    "support.screening_": "tools",
    "support.screening_deadline": "deadline",
    "support.screening_nothing_to_read": "input",
    "support.screening_scope_invalid": "input",
    "support.screening_wrong_account": "access",
    "support.service_screener_": "tools",
    "support.suppression": "input",
    "support.ticket_": "customer",
    "support.ticket_foreign": "permission",
    "support.timezone_": "input",
    "support.too_many_": "busy",
    "support.tool_": "tools",
    "support.zendesk_": "busy",
    "support.zendesk_id_invalid": "input",
    "": "internal",
}

_KO: Mapping[str, Words] = {
    "session": Words(
        "로그인을 확인하지 못했습니다",
        "로그인이 만료되었거나 관리자가 종료했습니다.",
        "티켓을 새로 고치세요. 계속되면 관리자에게 아래 코드를 알려 주세요.",
    ),
    "permission": Words(
        "권한이 없습니다", "이 작업을 할 수 있는 역할이 아닙니다.", "리드나 관리자에게 요청하세요."
    ),
    "busy": Words(
        "지금은 응답이 없습니다",
        "필요한 서비스가 잠시 응답하지 않거나 요청이 많습니다.",
        "1~2분 뒤에 다시 시도하세요.",
    ),
    "input": Words(
        "요청을 처리할 수 없습니다", "요청한 값이 올바르지 않습니다.", "값을 고쳐 다시 요청하세요."
    ),
    "storage": Words(
        "저장소를 사용할 수 없습니다",
        "결과를 저장하거나 읽지 못했습니다. AWS 계정에는 문제가 없습니다.",
        "잠시 뒤 다시 시도하고, 계속되면 관리자에게 아래 코드를 알려 주세요.",
    ),
    "tools": Words(
        "도구를 사용할 수 없습니다",
        "답에 필요한 도구가 설치되어 있지 않거나 도중에 멈췄습니다.",
        "다시 시도하고, 계속되면 관리자에게 아래 코드를 알려 주세요.",
    ),
    "access": Words(
        "고객 계정에 들어갈 수 없습니다",
        "고객 계정의 역할을 맡지 못했거나 다른 계정으로 연결되어 중단했습니다.",
        "고객 계정의 역할, 신뢰 정책, ExternalId를 확인하도록 관리자에게 요청하세요.",
    ),
    "denied": Words(
        "읽기 권한이 부족합니다",
        "고객 계정이 필요한 읽기를 허용하지 않았습니다.",
        "역할에 SecurityAudit 정책을 연결하도록 고객에게 안내하세요.",
    ),
    "aws": Words(
        "AWS에서 읽지 못했습니다",
        "AWS가 응답하지 않았거나 요청을 제한했습니다.",
        "몇 분 뒤에 다시 시도하세요.",
    ),
    "customer": Words(
        "티켓에 연결된 계정이 없습니다",
        "이 계정은 프로젝트의 고객 목록에 없습니다.",
        "리드나 관리자에게 조직 또는 티켓에 계정을 연결하도록 요청하세요.",
    ),
    "model": Words(
        "답을 만들지 못했습니다",
        "답변 모델이 응답하지 않았거나 한도를 넘었습니다.",
        "질문을 더 짧고 분명하게 나누어 다시 시도하세요.",
    ),
    "deadline": Words(
        "시간이 초과되었습니다",
        "정해진 시간 안에 끝나지 않았습니다.",
        "리전이나 기간을 좁혀 다시 요청하세요.",
    ),
    "gone": Words(
        "보고서를 열 수 없습니다",
        "보관 기간이 지났거나 이 티켓의 보고서가 아닙니다.",
        "티켓에서 다시 열거나 새로 요청하세요.",
    ),
    "internal": Words(
        "처리 중 오류가 발생했습니다",
        "서버 안에서 문제가 생겼습니다. 고객 계정에서 바뀐 것은 없습니다.",
        "다시 시도하고, 계속되면 관리자에게 아래 코드를 알려 주세요.",
    ),
}
_EN: Mapping[str, Words] = {
    "session": Words(
        "You are not signed in",
        "Your sign-in has expired, or an administrator ended it.",
        "Reload the ticket; if it stays so, tell an administrator the code below.",
    ),
    "permission": Words(
        "You may not do this", "Your role does not allow it.", "Ask a lead or an administrator."
    ),
    "busy": Words(
        "No answer at the moment",
        "A service that this needs is busy or does not answer.",
        "Try again in a minute or two.",
    ),
    "input": Words(
        "This cannot be done", "Something in the request is not valid.", "Correct it and ask again."
    ),
    "storage": Words(
        "The storage cannot be used",
        "The result could not be stored or read. Nothing is wrong with the AWS account.",
        "Try again in a while; if it stays so, tell an administrator the code below.",
    ),
    "tools": Words(
        "A tool cannot be used",
        "A tool that the answer needs is not installed or stopped half-way.",
        "Try again; if it stays so, tell an administrator the code below.",
    ),
    "access": Words(
        "The customer's account cannot be entered",
        "Its role could not be assumed, or led to another account, so nothing was read.",
        "Ask an administrator to check the role, its trust policy and the ExternalId.",
    ),
    "denied": Words(
        "The account does not allow this",
        "A read that this needs was denied by the customer's account.",
        "Ask the customer to attach the policy SecurityAudit to the role.",
    ),
    "aws": Words(
        "AWS could not be read", "AWS did not answer, or limited the requests.", "Try again in a few minutes."
    ),
    "customer": Words(
        "No account belongs to this ticket",
        "The account is not on the project's list of customers.",
        "Ask a lead or an administrator to bind one to the organization or the ticket.",
    ),
    "model": Words(
        "No answer could be made",
        "The model did not answer, or reached its limits.",
        "Ask again with a shorter or clearer question.",
    ),
    "deadline": Words(
        "It took too long",
        "It did not end in the time that is set for it.",
        "Ask for fewer regions or less time.",
    ),
    "gone": Words(
        "This report cannot be opened",
        "It was kept long enough, or is not one of this ticket.",
        "Open it from its ticket, or ask for a new one.",
    ),
    "internal": Words(
        "Something went wrong",
        "There was a fault in the server. Nothing was changed in the customer's account.",
        "Try again; if it stays so, tell an administrator the code below.",
    ),
}
WORDS: Mapping[Language, Mapping[str, Words]] = {Language.KOREAN: _KO, Language.ENGLISH: _EN}


def category(code: str) -> str:
    """The category of an error's code."""
    return CATEGORIES[max((prefix for prefix in CATEGORIES if code.startswith(prefix)), key=len)]


def worded(problem: Mapping[str, Any], language: Language) -> dict[str, Any]:
    """`problem` in the words of its category. English keeps what the error said itself: it is English."""
    words = WORDS[language][category(str(problem["code"]))]
    said = {name: str(problem[name]) for name in ("detail", "remedy") if problem.get(name)}
    shown = {"detail": words.detail, "remedy": words.remedy}
    if language is Language.ENGLISH and category(str(problem["code"])) != "internal":
        shown |= said
    details = {**problem.get("details", {}), "category": category(str(problem["code"])), "said": said}
    return {**problem, "title": words.title, **shown, "details": details}
