"""The words of the embedded model's answers, in both languages: every text it can say stands here.

Values are filled in by `str.format`; whoever fills them cleans them first.
"""
# One row of a table is one line, or one pair of texts: rows are read side by side.
# ruff: noqa: E501

from fairlead.support.answers.tools import Cause
from fairlead.support.model import Language

_P: dict[str, tuple[str, str]] = {
    # What was found
    "events": ("{what} 이벤트를 {count}건 찾았습니다.", "Found {count} {what} events."),
    "event_one": ("{what} 이벤트를 1건 찾았습니다.", "Found 1 {what} event."),
    "events_none": (
        "이 조건에 맞는 {what} 이벤트가 없습니다.",
        "There are no {what} events that match.",
    ),
    "events_changing": ("변경", "changing"),
    "alarms": (
        "지금 ALARM 상태인 알람이 {count}개 있습니다.",
        "{count} alarms are in ALARM now.",
    ),
    "alarm_one": ("지금 ALARM 상태인 알람이 1개 있습니다.", "1 alarm is in ALARM now."),
    "alarms_none": ("지금 ALARM 상태인 알람이 없습니다.", "No alarm is in ALARM now."),
    "alarm_changes": ("같은 기간의 상태 변경 {count}건:", "Changes of state in the period, {count}:"),
    "alarm_changes_none": (
        "이 기간에 알람 상태가 바뀐 기록이 없습니다.",
        "No alarm changed its state in the period.",
    ),
    "alarm_history": (
        "알람 {what}의 상태 변경이 {count}건 있습니다. 현재 상태: {state}.",
        "Alarm {what} changed its state {count} times. It is in {state} now.",
    ),
    "alarm_unknown": ("{what}(이)라는 알람을 찾지 못했습니다.", "There is no alarm named {what}."),
    "metric": (
        "{what} 지표가 있는 리소스 {count}개의 값입니다({statistics}).",
        "{what} of {count} resources ({statistics}).",
    ),
    "metric_none": (
        "{what} 지표에 기록된 값이 없습니다. 리소스가 없거나 지표를 보내지 않습니다.",
        "There are no values of {what}: no such resource, or it sends none.",
    ),
    "metric_agent": (
        "메모리와 디스크 지표는 CloudWatch 에이전트를 설치한 인스턴스만 보냅니다.",
        "Only instances with the CloudWatch agent send memory and disk metrics.",
    ),
    "things": ("{what} {count}개입니다.", "{what}: {count}."),
    "things_some": (
        "{what} {total}개 중 {condition}: {count}개입니다.",
        "{count} of {total} {what}: {condition}.",
    ),
    "things_none": ("{what} 항목이 없습니다.", "There are no {what}."),
    "unapplied": (
        "질문에 있는 조건은 이 목록만으로 판단할 수 없어 전체를 보여 드립니다.",
        "This list does not tell the condition that the question has, so all of them are shown.",
    ),
    "nothing_read": (
        "아무것도 읽지 못했으므로 있다고도 없다고도 말할 수 없습니다.",
        "Nothing could be read, so this says neither that there is something nor that there is not.",
    ),
    "partly_read": (
        "일부를 읽지 못했으므로 이 결과는 완전하지 않습니다.",
        "Something could not be read, so this is not complete.",
    ),
    "at_least": ("{count}개 이상", "at least {count}"),
    "more_rows": ("… 그 밖에 {count}건(표시 생략)", "… and {count} more that are not shown"),
    "points": ("값 {count}개", "{count} values"),
    "truncated": (
        "읽는 양을 제한했으므로 더 있을 수 있습니다. 기간이나 조건을 좁히면 모두 볼 수 있습니다.",
        "There are more than were read. Narrow the period or the condition to see all of them.",
    ),
    "clamped": (
        "CloudTrail 이벤트 기록은 90일까지만 조회되므로 그 이전은 포함되지 않았습니다.",
        "CloudTrail's event history reaches back 90 days, so what was before is not in here.",
    ),
    "left_out": ("보지 않은 리전: {what}.", "Regions that were not looked at: {what}."),
    "other_account": (
        "질문에 {what} 계정이 언급되었지만, 조회는 이 티켓에 연결된 계정 {account}에서만 했습니다.",
        "The question mentions account {what}; only {account}, the account of this ticket, was looked at.",
    ),
    # What it stands on
    "unread": ("읽지 못함", "Not read"),
    "basis": ("기준", "Basis"),
    "account": ("계정 {what}", "account {what}"),
    "region": ("리전 {what}", "region {what}"),
    "period": ("기간 {start} ~ {end} ({zone})", "period {start} to {end} ({zone})"),
    "now": ("현재 상태({at} 조회)", "as it is now (read {at})"),
    "calls": ("호출({count}회): {what}", "Calls ({count}): {what}"),
    "next": ("다음 단계", "Next step"),
    "by_rules": (
        "이 답변은 AI가 아니라 규칙과 조회 결과로 작성되었습니다.",
        "This answer was put together by rules from what AWS said, not by a language model.",
    ),
    # Next steps
    "next_events": (
        "이벤트 이름, 리소스 이름, 사용자나 기간을 넣어 다시 물으면 더 좁혀서 찾습니다.",
        "Ask again with the name of an event, a resource, a user or a period to narrow it down.",
    ),
    "next_events_none": (
        "기간을 넓히거나 다른 리전을 지정해 다시 물어보세요. 객체 단위 작업은 이 기록에 남지 않습니다.",
        "Ask again for a longer period or another region. What happens to single objects is not recorded there.",
    ),
    "next_alarms": (
        "알람 이름을 넣어 이력을 묻거나, 관련 지표(예: EC2 CPU)를 물어보세요.",
        "Ask for the history of one of them by its name, or for a metric such as EC2 CPU.",
    ),
    "next_metric": (
        "리소스 ID와 기간을 넣어 다시 물으면 그 리소스만 봅니다.",
        "Ask again with the id of a resource and a period to see that one alone.",
    ),
    "next_things": (
        "설정에 문제가 있는지 보려면 보안 점검을 실행하세요.",
        "Run a security screening to see whether anything is set up badly.",
    ),
    "next_unread": (
        "위의 읽지 못한 항목을 해결한 뒤 다시 물어보세요.",
        "Ask again once what could not be read is put right.",
    ),
    # Jobs
    "screen": (
        "보안 점검은 시간이 걸리는 작업입니다. '보안 점검'을 실행하면 진행 상황과 보고서를 보여 드립니다.",
        "A security screening takes a while. Start the screening; its progress and report will show.",
    ),
    "report": (
        "월간 보고서는 시간이 걸리는 작업입니다. {what} 보고서를 만들려면 '월간 보고서'를 실행하세요.",
        "A monthly report takes a while. Start the monthly report for {what}.",
    ),
    # General
    "source": ("출처: {what}", "Source: {what}"),
    "general": (
        "이 답변은 AI가 아니라 준비된 자료에서 찾은 글입니다. 고객 계정은 조회하지 않았습니다.",
        "This is a text from a prepared corpus, not from a language model. No account was looked at.",
    ),
    "no_account": (
        "이 티켓에 연결된 AWS 계정이 없어 조회할 수 없습니다. 관리자에게 계정 연결을 요청하세요.",
        "No AWS account is bound to this ticket, so nothing can be looked up. Ask an administrator to bind one.",
    ),
    # Questions back
    "which_things": ("어떤 리소스의 목록을 볼까요?", "Which kind of resource should I list?"),
    "which_region": (
        "'{what}'은(는) 알려진 AWS 리전이 아닙니다. 어느 리전을 볼까요?",
        "'{what}' is no AWS region that is known. Which region should I look at?",
    ),
    # Progress
    "reading": ("{what} 조회 중", "Reading {what}"),
    "writing": ("답변 작성 중", "Writing the answer"),
    "understanding": ("질문 확인 중", "Reading the question"),
}
_CAUSES: dict[Cause, tuple[str, str]] = {
    Cause.DENIED: (
        "권한이 없습니다({code}). 역할에 이 호출({call})을 허용하거나 SecurityAudit 정책을 연결하세요",
        "not permitted ({code}): allow {call} for the role, or attach the policy SecurityAudit",
    ),
    Cause.THROTTLED: (
        "AWS가 요청을 제한했습니다({code}). 잠시 후 다시 시도하세요",
        "AWS throttled the calls ({code}): try again in a minute",
    ),
    Cause.REGION_OFF: (
        "이 계정에서 켜져 있지 않거나 응답하지 않는 리전입니다({code})",
        "the region is switched off in this account, or does not answer ({code})",
    ),
    Cause.EXPIRED: (
        "계정 접근 자격이 만료되었거나 받을 수 없습니다({code}). 다시 물어보세요",
        "the access to the account has expired or could not be renewed ({code}): ask again",
    ),
    Cause.UNREACHABLE: (
        "조회 도구가 중단되었거나 응답하지 않았습니다({code}). 다시 물어보세요",
        "the tool that reads this broke off or did not answer ({code}): ask again",
    ),
    Cause.REFUSED: (
        "허용되지 않은 조회입니다({code})",
        "this is not one of the reads that are allowed ({code})",
    ),
    Cause.MISSING: ("그런 리소스가 없습니다({code})", "there is no such thing ({code})"),
    Cause.FAILED: ("조회가 실패했습니다({code})", "the call failed ({code})"),
}
_COLUMNS: dict[str, str] = {
    "name": "이름", "type": "유형", "state": "상태", "public_ip": "공인 IP", "launched": "시작", "size_gib": "크기(GiB)",
    "encrypted": "암호화", "volume": "볼륨", "started": "시작", "open_ports": "인터넷에 열린 포트", "default": "기본",
    "zone": "가용 영역", "created": "생성", "password_last_used": "마지막 로그인", "engine": "엔진", "version": "버전",
    "class": "클래스", "multi_az": "다중 AZ", "public": "공개", "runtime": "런타임", "memory_mb": "메모리(MB)",
    "timeout_s": "제한 시간(초)", "modified": "수정", "scheme": "방식", "status": "상태", "mutability": "태그 변경",
    "domain": "도메인", "expires": "만료", "changed": "변경", "rotation": "교체", "records": "레코드", "home": "홈 리전",
    "multi_region": "다중 리전", "bucket": "버킷", "metric": "지표", "updated": "변경", "retention_days": "보존(일)",
    "stored_bytes": "크기(바이트)",
}  # fmt: skip


def say(phrase: str, language: Language, **values: object) -> str:
    """A phrase in `language`, filled."""
    return _P[phrase][0 if language is Language.KOREAN else 1].format(**values)


def cause(of: Cause, language: Language, *, code: str, call: str) -> str:
    """Why something could not be read, and what to do about it."""
    return _CAUSES[of][0 if language is Language.KOREAN else 1].format(code=code or "?", call=call or "?")


def column(name: str, language: Language) -> str:
    """A column's heading."""
    return _COLUMNS.get(name, name) if language is Language.KOREAN else name.replace("_", " ")


def example_things(language: Language) -> tuple[str, ...]:
    """Questions that list something."""
    if language is Language.KOREAN:
        return (
            "EC2 인스턴스 목록 보여줘",
            "S3 버킷 목록 보여줘",
            "RDS 목록 보여줘",
            "IAM 사용자 목록 보여줘",
        )
    return ("List the EC2 instances", "List the S3 buckets", "List the RDS databases", "List the IAM users")


def example_questions(language: Language) -> tuple[str, ...]:
    """Questions of each kind."""
    if language is Language.KOREAN:
        return (
            "어제 누가 S3 버킷을 삭제했나요?",
            "지금 울리는 알람 보여줘",
            "EC2 인스턴스 목록 보여줘",
            "보안 점검 실행해줘",
        )
    return (
        "Who deleted an S3 bucket yesterday?",
        "Which alarms are firing now?",
        "List the EC2 instances",
        "Run a security screening",
    )
