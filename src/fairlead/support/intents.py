"""What is wanted, by adding up points: every rule that matches adds its points to one intent.

Nothing wins by coming first: "월간 보안 점검 보고서" has points for a screening and more for a report.
"""
# One row of a table is one line: rows are read side by side.
# ruff: noqa: E501, ISC004

from collections.abc import Mapping
from dataclasses import dataclass

from fairlead.support.language import terms
from fairlead.support.model import Intent, Slots

# (intent, points, terms)
RULES: tuple[tuple[Intent, float, str], ...] = (
    (Intent.SCREENING, 4, "screener | screening* | prowler | 스크리너 | 스크리닝"),
    (Intent.SCREENING, 3, "scan | scanning | scanned | rescan* | scans | (?:run|start|use) (?:the|a|our|your) scanner | screen (?:the|our|my|this|account) | assess* | posture | 스캔 | 진단"),
    (Intent.SCREENING, 3, "점검 | (?:보안|취약점|전체|설정) ?검사 | 검사 ?(?:해|가능|부탁|요청|좀)"),
    (Intent.SCREENING, 3, "vulnerab* | misconfigur* | security holes? | non[- ]complian* | weak settings? | 취약 | 잘못된 설정"),
    (Intent.SCREENING, 2.5, "security (?:check*|audit|review|health|scan*) | health check | well[- ]architected | best[- ]practice check"
                            " | compliance (?:check|scan|review) | full check | 보안 ?(?:상태|검사|점검|진단) | 웰 ?아키텍티드"),
    (Intent.SCREENING, 2, "cis | pci* | isms* | iso ?27001 | hipaa | soc ?2 | benchmark* | 벤치마크 | 심사"),
    (Intent.SCREENING, 1.5, "publicly (?:exposed|accessible|open) | expos* | insecure | is our setup secure | how secure"
                            " | 안전한지 | 문제 ?(?:없는지|있는지) | 전반적으로"),
    (Intent.SCREENING, 2.5, "risky | risks? | wide open | look [a-z ]*over | once[- ]over | security (?:practices|gaps?|issues|problems|settings) | loopholes?"
                            " | harden* | secure enough | weakness* | audit (?:the |our |this )?(?:account|environment|config*|setup|s3|iam|security)"
                            " | 위험 | 구멍 | 털릴 | 뚫릴 | 허술 | 훑어 | 보안 ?(?:감사|체크|설정|문제|이슈) | 감사 ?(?:앞두|준비|대비|대응) | 체크 ?(?:받|해|부탁|좀|리스트) | 위협이 될"),
    (Intent.SCREENING, 2.5, "check [a-z ]{0,24}security | (?:is|are) (?:the |our |my |this |it |we |everything )[a-z0-9 -]{0,30}(?:safe|secure)(?! to) | how safe"
                            " | 보안 ?(?:좀 ?)?(?:봐|확인|살펴|괜찮) | 안전해 | 안전한가 | 안전합니까"),
    (Intent.MONTHLY_REPORT, 5, "reports? | 보고서 | 리포트"),
    (Intent.MONTHLY_REPORT, 2, "monthly | month end | 현황 ?보고 | 월간 | 월별 | 월말 | 정기 보고"),
    (Intent.MONTHLY_REPORT, 3, "write[- ]?up | monthly (?:summary|overview|review) | summary (?:of|for) (?:the |last |this )?month | month'?s summary"
                            " | (?:security|account|monthly) (?:summary|overview|digest) | 현황 ?보고 | 보고 ?(?:해|드려|부탁|좀)"
                            " | 정리본 | 결산 | 월 ?보고 | 요약본 | 보고 ?(?:자료|용) | 자료로"),
    (Intent.API_ACTIVITY, 3.5, "who | whom | whose | which (?:user|person|role|identity|principal)(?!s? (?:do |don|does|have|has|are|is|lack|without|need|can|still|with)) | did (?:anyone|anybody|someone|somebody) | has (?:anyone|anybody)"
                             " | someone | anyone | 누가 | 누구 | 누군가 | (?:한|든|킨|운|꾼|은|던|춘) 사람 | 한 ?사람"),
    (Intent.API_ACTIVITY, 3, "cloud ?trail | audit (?:trail|logs?) | 클라우드 ?트레일 | 감사 로그 | 추적"),
    (Intent.API_ACTIVITY, 3, "log ?ins? | logged in | sign[- ]?ins? | signed in | 로그인 | 접속 기록"),
    (Intent.API_ACTIVITY, 2.5, "api (?:calls?|activity|history) | activity | activities | history | track* changes | actions (?:of|by|taken)"
                             " | what did [a-z0-9 ._-]+ do | changes (?:to|made|in) | 이력 | 내역 | 기록 | 활동 | 호출 내역 | 뭐 ?했 | 무엇을 했 | 무슨 ?(?:작업|일)"),
    (Intent.API_ACTIVITY, 1.5, "events? | look ?up | calls | when (?:was|were|did) | 이벤트 | 언제 | 작업 | 변경(?! ?방법)"),
    (Intent.API_ACTIVITY, 1.5, "deleted | removed | terminated | created | killed | changed | modified | launched | attached | opened | disabled | stopped | rebooted | updated"
                             " | 삭제 ?(?:했|됐|되었|한|된) | 종료 ?(?:했|됐|한|된) | 변경 ?(?:했|됐|한|된) | 생성 ?(?:했|됐|한|된) | 지웠 | 바꿨 | 만들었 | 열었 | 껐 | 수정 ?(?:했|한)"
                             " | 중지 ?(?:시켰|했|한|된|됐) | (?:재부팅|재시작) ?(?:했|됐|되었|한|된)"),
    (Intent.API_ACTIVITY, 2.5, "touch* | by whom | any idea who | what happened (?:to|with|in) | 연 사람 | vanish* | disappear* | been used | everything [a-z0-9._-]+ did | tamper* | intru* | suspicious (?:activity|access|log*)"
                             " | gone missing | went missing | got (?:deleted|removed|changed|terminated) | was (?:deleted|removed|changed|terminated|stopped) | unauthori[sz]ed"
                             " | 건드[린렸려] | 흔적 | 들어온 | 뚫[은었] | 사라졌 | 사라진 | 없어졌 | 없어진 | 범인 | 접근 ?(?:기록|이력) | 발급된 | 침입 | 무단 | 의심스러운 | 바뀐 것 | 바뀌었"),
    (Intent.API_ACTIVITY, 1.5, "shut ?down | turned off | caused | 내려갔 | 내린 | 바뀐 | 바꾼 | 꺼졌 | 꺼진 | 했는지"),
    (Intent.API_ACTIVITY, 3, "access ?denied | denied (?:calls?|requests?) | unauthorized ?operation | 권한 ?(?:거부|오류|에러) | 접근 ?거부 | 액세스 ?거부"),
    (Intent.MONITORING, 3.5, "alarms? | alerts? | firing | 알람 | 경보"),
    (Intent.MONITORING, 3, "metrics? | monitor* | dashboards? | graph* | performance | 모니터링 | 메트릭 | 지표 | 대시보드 | 성능 | 그래프 | 추이"),
    (Intent.MONITORING, 2.5, "cloud ?watch | log groups? | logs insights | error logs? | search the logs? | 클라우드 ?[와워]치 | 로그 ?그룹 | 에러 로그 | 오류 로그 | 로그 ?(?:검색|확인|조회)"),
    (Intent.MONITORING, 1.5, "usage | utilization | spik* | slow* | timeouts? | average | trend* | how (?:much|high) | 사용률 | 사용량 | 느려 | 느린 | 느림 | 튀었 | 튀는 | 급증 | 울리 | 울렸 | 쌓였"),
    (Intent.MONITORING, 2.5, "sluggish | lagg* | overload* | fill(?:ing)? up | running out | out of (?:memory|space|disk) | outage | unresponsive | anything red | on fire | plot | chart"
                           " | healthy | health of | crash* | throttl* | 부하 | 버벅 | 타임아웃 | 죽었 | 죽은 | 터졌 | 터진 | 장애 | 먹통 | 꽉 ?[찼차] | 몇 ?(?:프로|퍼센트|%) | 과부하 | 끊겨 | 끊김 | 쓰로틀 | 빨간"),
    (Intent.MONITORING, 2.5, "(?:is|are|was|were|went|goes|keeps? going) (?:all |now |still )?down | not (?:responding|reachable|working|loading) | unreachable | anything wrong | (?:what'?s|something) wrong with"
                           " | (?:can'?t|cannot|can not) (?:reach|connect|open) | (?:doesn'?t|does not|won'?t) (?:load|open|respond)"
                           " | iops | disk i/?o | throughput | 처리량 | 안 ?열[려리] | 접속이? ?안 | 응답이? ?없 | 안 ?떠[요서] | 다운 ?[됐된]"),
    (Intent.MONITORING, 1.5, "load(?![a-z])(?! balanc) | latency | slower | errors? | fail* | full | peak | high | logs | board | 에러 | 오류 | 지연 | 실패 | 응답 | 로그 | 최고치 | 올라갔 | 이상(?: 징후|한| 없)"),
    (Intent.INVENTORY, 3, "list | lists | listing | inventory | how many | count | enumerate | overview of the | 목록 | 리스트 | 몇 ?(?:개|대|명|건) | 현황 | 인벤토리 | 보유"),
    (Intent.INVENTORY, 2.5, "which [a-z0-9 ]+ (?:do(?:n'?t| not)?|allow*|lack|without|with) | do we have | are there any | which [a-z0-9 ]+ (?:are|is|use|have|exist|expire*|need) | what [a-z0-9 ]+ (?:exist|do we have)"
                          " | what (?:instance type|version|size|runtime|engine) (?:is|are|of) | resources | details of | configuration of | settings of"
                          " | 전체 ?조회 | 리소스 | 사양 | 설정 ?정보 | 버전 목록 | 크기랑 | 상태 알려 | 있나요"),
    (Intent.INVENTORY, 2, "tell me the [a-z ]+ of | every | all (?:our|the|of our) | what'?s running | what (?:is|are) running | everything in | sizes? of | names of"
                          " | open to (?:the )?(?:world|internet) | 인터넷에 (?:열린|열려|공개된) | 뽑아 | 정리해 | 어떤 [가-힣a-z0-9 ]+ 있 | 있는지 | 있어 | 있습니까 | 있을까 | 있는가 | 쓰고 있는 | 사용 ?중인 | 붙은 | 종류별 | 타입별 | 리전별 | 총 몇 | 전부 | 모두"),
    (Intent.INVENTORY, 1, "show | show me | give me | running | unused | unencrypted | without mfa | 보여 | 조회 | 실행 ?중인 | 안 쓰는 | 미사용 | 암호화 안 | 어떻게 되"),
    (Intent.GENERAL, 4, "what (?:is|are|does|do) (?:an? |the difference*|it mean) | difference* between | explain | how (?:do|does|can|should|to|would) | what does [a-z0-9 -]+ mean | what (?:does|do) [a-z0-9 -]{2,30} (?:record|cost|cover|include|support|store|log|protect) | is it (?:safe|ok|okay|better|necessary|enough) to"
                      " | versus | vs\\.? | best practices? (?:for|to|of) | used for | priced | pricing | how is [a-z0-9 ]+ (?:priced|charged|billed)"
                      " | (?:무엇|뭔)(?:인가|가요|지) | 뭐예요 | 뭐에요 | 뭐야 | 뭐하는 | 뭔가요 | (?:이란|란 무엇) | 차이 | 다른가 | 다른 ?점 | 다른지 | 방법 | 하는 법 | 개념 | 설명해 | 궁금 | 어떻게 (?:하|해|선택|설정|다른|계산|만들|쓰)"
                      " | 요금 | 주기"),
    (Intent.GENERAL, 3, "what (?:is|are) [a-z0-9 -]{2,30}\\?? *$ | what (?:is|are) [a-z0-9 -]{2,30} (?:in|for|used for)"
                      " | hello | hi | hey | thanks | thank you | good (?:morning|afternoon) | 안녕 | 감사(?:합|해|드) | 고마 | 고맙 | 수고"),
    (Intent.GENERAL, 3, "why (?:would|does|do|is|are|should|can'?t) | is there (?:a|any) way | can i | should i | is it possible | what happens (?:if|when) | pros and cons | how long (?:does|do|can)"
                      " | recommend* | when should | which is better | what kind of | do i need | 왜 이렇게 | 얼마나 (?:걸|오래) | 가능한가요 | 해도 되 | 추천 | 장단점 | 하려면 | 써야 | 좋을까요 | 무슨 뜻 | 뜻이"),
    (Intent.GENERAL, 2, "bill | billing | cost* | refund | reduce | app crashed | on my phone | order | arrived | call me | 비용 | 환불 | 주문 ?(?:번호|건|하신|내역) | 주문 \\d+ | 배송 | 연락 | 문의드립"),
)  # fmt: skip

# How something is set up. Who asks what such a thing is, or how it is done, uses the same words.
STATE = (
    "(?:^|[.!?,\n] *)(?:is|are|does|do|has|have) [^!?\n]{2,80} (?:on|off|enabled|disabled|turned on|switched on|encrypted|public|private|attached|versioned|rotated|tagged|multi[- ]az|mfa|versioning|backups?)"
    " | retention | versioning | 버전 ?관리 | expir* | multi[- ]az | unattached | not attached | orphaned | older than | lack*"
    " | 만료 | 보존 ?기간 | 암호화 ?(?:되|돼|여부|안|하지) | 공개 ?(?:되어|돼|여부) | 켜져 ?있 | 꺼져 ?있 | 활성화 ?(?:되|돼|여부) | (?:없는|안 ?[켠쓴한]|않은) ?[가-힣a-z0-9 ]{0,12}(?:사용자|유저|버킷|볼륨|인스턴스|키)"
    " | 열린 ?(?:보안|포트) | 열려 ?있 | 명단 | 대수 | 넘은"
)

# What a filled slot says about the intent.
STATE_POINTS, EVENT_POINTS, METRIC_POINTS, DESCRIBED_EVENT_POINTS, RESOURCE_POINTS = 2.5, 4.0, 4.0, 1.0, 0.5


@dataclass(frozen=True, slots=True)
class Scores:
    """Points of each intent; `best` and `second` by points, ties in the order of `Intent`."""

    points: Mapping[Intent, float]

    @property
    def ranked(self) -> list[Intent]:
        """All intents, best first."""
        return sorted(self.points, key=lambda intent: -self.points[intent])

    @property
    def confidence(self) -> float:
        """0..1: small where little was recognised, and where another intent is as good."""
        best, second = (self.points[intent] for intent in self.ranked[:2])
        return round((best - 0.55 * second) / (best + 1.2), 2) if best > 0 else 0.0

    @property
    def tied(self) -> bool:
        """Whether two intents have about the same points."""
        best, second = (self.points[intent] for intent in self.ranked[:2])
        return best > 0 and best - second < 0.5


def score(folded: str, slots: Slots, *, written_event: bool, described_event: bool) -> Scores:
    """Points of every intent for a text (folded) and what was found in it."""
    points = dict.fromkeys(Intent, 0.0)
    for intent, worth, listed in RULES:
        if terms(listed).search(folded):
            points[intent] += worth
    if terms(STATE).search(folded) and not points[Intent.GENERAL]:
        points[Intent.INVENTORY] += STATE_POINTS
    if written_event:
        points[Intent.API_ACTIVITY] += EVENT_POINTS
    elif described_event and not points[Intent.GENERAL]:
        points[Intent.API_ACTIVITY] += DESCRIBED_EVENT_POINTS
    if slots.metric:
        points[Intent.MONITORING] += METRIC_POINTS
    if slots.resource:
        points[Intent.INVENTORY] += RESOURCE_POINTS
    return Scores(points)
