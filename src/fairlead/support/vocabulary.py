"""The words that rules know, as tables: regions, services, CloudTrail events, CloudWatch metrics.

Every row is (canonical name, terms in English and Korean); `language.terms` says how terms match. A new
word is one more term in one row.
"""
# One row of a table is one line: rows are read side by side.
# ruff: noqa: E501, ISC004

REGIONS: tuple[tuple[str, str], ...] = (
    (
        "us-east-1",
        "n\\.? virginia | northern virginia | north virginia | virginia | 버지니아 북부 | 버지니아",
    ),
    ("us-east-2", "ohio | 오하이오"),
    ("us-west-1", "northern california | n\\.? california | california | 캘리포니아 북부 | 캘리포니아"),
    ("us-west-2", "oregon | 오레곤 | 오리건"),
    ("ca-central-1", "canada central | montreal | canada | 캐나다 중부 | 몬트리올 | 캐나다"),
    ("ca-west-1", "calgary | 캘거리"),
    ("mx-central-1", "mexico | 멕시코"),
    ("sa-east-1", "s[aã]o paulo | brazil | 상파울루 | 상파울로 | 브라질"),
    ("eu-west-1", "ireland | dublin | 아일랜드 | 더블린"),
    ("eu-west-2", "london | 런던 | 영국 ?리전"),
    ("eu-west-3", "paris | 파리 | 프랑스 ?리전"),
    ("eu-central-1", "frankfurt | germany | 프랑크푸르트 | 독일"),
    ("eu-central-2", "zurich | zürich | switzerland | 취리히 | 스위스"),
    ("eu-north-1", "stockholm | sweden | 스톡홀름 | 스웨덴"),
    ("eu-south-1", "milan | italy | 밀라노 | 이탈리아"),
    ("eu-south-2", "spain | 스페인"),
    ("af-south-1", "cape town | south africa | 케이프타운 | 남아공 | 남아프리카"),
    ("me-south-1", "bahrain | 바레인"),
    ("me-central-1", "uae | dubai | 두바이 | 아랍에미리트"),
    ("il-central-1", "tel aviv | israel | 텔아비브 | 이스라엘"),
    ("ap-northeast-1", "tokyo | 도쿄 | 동경 | 일본 ?리전 | japan regions?"),
    ("ap-northeast-2", "seoul | korea region | 서울 | (?:한국|국내) ?리전"),
    ("ap-northeast-3", "osaka | 오사카 | 일본 ?리전 | japan regions?"),
    ("ap-southeast-1", "singapore | 싱가포르"),
    ("ap-southeast-2", "sydney | 시드니 | 호주 ?리전 | australia regions?"),
    ("ap-southeast-3", "jakarta | indonesia | 자카르타 | 인도네시아"),
    ("ap-southeast-4", "melbourne | 멜버른 | 호주 ?리전 | australia regions?"),
    ("ap-southeast-5", "malaysia | kuala lumpur | 말레이시아 | 쿠알라룸푸르"),
    ("ap-southeast-7", "thailand | bangkok | 태국 | 방콕"),
    ("ap-south-1", "mumbai | 뭄바이 | 인도 ?리전 | india regions?"),
    ("ap-south-2", "hyderabad | 하이데라바드 | 인도 ?리전 | india regions?"),
    ("ap-east-1", "hong kong | 홍콩"),
    ("ap-east-2", "taipei | taiwan | 타이베이 | 대만"),
)

# Services that a word names by itself.
SERVICES: tuple[tuple[str, str], ...] = (
    ("security_group", "security groups? | sgs? | 보안 그룹"),
    ("elb", "load balancers? | alb | nlb | elb | 로드 ?밸런서 | 로드 ?발란서"),
    ("rds", "rds | aurora | databases? | db | db instances? | 데이터베이스 | 디비 | 오로라 | 알디에스"),
    ("s3", "s3 | buckets? | 버킷 | 에스쓰리"),
    ("lambda", "lambdas? | lambda functions? | functions | 람다 | 함수"),
    ("dynamodb", "dynamo ?db | 다이나모 ?디비 | 다이나모 | 다이너모"),
    ("elasticache", "elasticache | redis | memcached | valkey | 레디스 | 엘라스티캐시"),
    ("ebs", "ebs | volumes? | ebs snapshots? | 볼륨"),
    ("ecs", "ecs | fargate | 파게이트"),
    ("eks", "eks | kubernetes | k8s | 쿠버네티스"),
    ("ecr", "ecr | container registry"),
    ("vpc", "vpcs? | subnets? | (?:nat|internet) gateways? | 서브넷"),
    ("iam", "iam"),
    ("kms", "kms"),
    ("acm", "acm | certificates? | 인증서"),
    ("sqs", "sqs | queues? | 대기열 | 큐에"),
    ("sns", "sns"),
    ("api_gateway", "api gateways? | api 게이트웨이"),
    ("cloudfront", "cloudfront | cdn | distributions? | 클라우드 ?프론트"),
    ("route53", "route ?53 | hosted zones? | 호스팅 영역 | 라우트 ?53"),
    ("secretsmanager", "secrets? manager | 시크릿 ?매니저"),
    ("redshift", "redshift | 레드시프트"),
    ("opensearch", "opensearch | 오픈 ?서치"),
    ("efs", "efs"),
    ("waf", "waf"),
    ("guardduty", "guardduty | 가드듀티"),
    ("backup", "aws backup"),
    ("ec2", "ec2 | elastic ips? | eips? | 탄력적 ip | spot instances? | 스팟 인스턴스 | amis?"),
)
# Asked only where nothing above is there: these words also belong to other services.
WEAK_SERVICES: tuple[tuple[str, str], ...] = (
    ("ec2", "instances? | servers? | virtual machines? | vms? | 인스턴스 | 서버(?!리스)"),
    ("cloudtrail", "cloud ?trail | trails? | 클라우드 ?트레일"),
    ("cloudwatch", "cloud ?watch | 클라우드 ?와치 | 클라우드 ?워치"),
)

_CREATED = "creat* | add(?:ed|s)? | new | 생성 | 만들 | 만든 | 추가"
_DELETED = "delet* | remov* | destroy* | dropp* | kill* | 삭제 | 지웠 | 지운 | 지우 | 제거 | 없앴 | 없앤 | 날렸 | 날린"
_CHANGED = (
    "chang* | modif* | updat* | edit* | alter* | 변경 | 수정 | 바꿨 | 바꾼 | 바뀌 | 바뀐 | 업데이트 | 고쳤"
)
_STOPPED = "stopp* | stop | shut ?down | 중지 | 정지 | 멈췄 | 멈춘 | 껐 | 끈 | 꺼버 | 꺼 버"
_STARTED = "start* | (?<!재)시작 | 기동 | 켰 | 켠"
_OPENED = "open* | allow* | authoriz* | expos* | public | 열었 | 열어 | 열린 | 열려 | 연 사람 | 오픈 | 개방 | 허용 | 공개 | 뚫은 | 뚫었"
_DISABLED = "disabl* | stopp* | turn(?:ed)? off | switched off | 껐 | 끈 | 끄 | 비활성 | 중지 | 해제"

# Names are those of the API. CloudTrail records Lambda's with a date behind them (CreateFunction20150331):
# whoever looks them up adds it.
# (event, what it was done to, what was done); the first row that matches counts: special before general.
EVENT_PHRASES: tuple[tuple[str, str, str], ...] = (
    (
        "ConsoleLogin",
        "console | login* | log(?:ged|s)? ?in | sign ?ins? | sign(?:ed)? ?in | 로그인 | 접속",
        "",
    ),
    ("StopLogging", "cloud ?trail | trail | logging | 클라우드 ?트레일 | 로깅", _DISABLED),
    ("DeleteTrail", "cloud ?trail | trail | 클라우드 ?트레일", _DELETED),
    (
        "PutBucketPolicy",
        "buckets?[a-z0-9. -]* polic* | polic[a-z]* (?:of|on|for) (?:the )?(?:[a-z0-9.-]+ )?bucket | 버킷[가-힣a-z0-9. -]{0,70} ?정책",
        _CHANGED + " | " + _CREATED,
    ),
    ("DeleteBucketPolicy", "buckets?[a-z0-9. -]* polic* | 버킷[가-힣a-z0-9. -]{0,70} ?정책", _DELETED),
    ("PutBucketPolicy", "buckets? | 버킷", "public | 공개"),
    ("DeleteBucket", "buckets? | 버킷", _DELETED),
    ("CreateBucket", "buckets? | 버킷", _CREATED),
    ("DeleteSecurityGroup", "security groups? | 보안 그룹", _DELETED + " | 삭제한"),
    (
        "RevokeSecurityGroupIngress",
        "security groups? | 보안 그룹 | ports? | 포트",
        "clos* | revok* | block* | 닫 | 막 | 차단",
    ),
    (
        "AuthorizeSecurityGroupIngress",
        "security groups? | sgs? | 보안 그룹 | ports? | 포트 | 0\\.0\\.0\\.0/0",
        _OPENED,
    ),
    ("CreateSecurityGroup", "security groups? | 보안 그룹", _CREATED),
    ("ScheduleKeyDeletion", "kms | encryption keys? | 암호화 키", "deletion | delet* | 삭제"),
    ("DeleteAccessKey", "access keys? | 액세스 ?키 | 엑세스 ?키", _DELETED),
    ("CreateAccessKey", "access keys? | 액세스 ?키 | 엑세스 ?키", _CREATED + " | issu* | 발급"),
    ("DeactivateMFADevice", "mfa", _DISABLED + " | " + _DELETED),
    (
        "AttachRolePolicy",
        "attached [a-z ]*to [a-z ]*role | role policy | 역할에",
        "attach* | grant* | 붙였 | 붙인 | 부여 | 연결",
    ),
    (
        "AttachUserPolicy",
        "administratoraccess | admin (?:rights|permissions?) | 관리자 권한",
        "attach* | grant* | gave | 붙였 | 붙인 | 부여 | 줬 | 준 사람",
    ),
    ("DeleteRole", "roles? | 역할", _DELETED),
    ("CreateRole", "roles? | 역할", _CREATED),
    ("AssumeRole", "roles? | 역할", "assum* | 위임 | 전환 | 맡은 | 맡았"),
    ("PutUserPolicy", "user polic* | inline polic* | 인라인 정책", "put | add* | 추가 | 넣은 | 넣었"),
    ("DeletePolicy", "iam polic* | managed polic* | iam 정책", _DELETED),
    ("ChangePassword", "passwords? | 비밀번호 | 패스워드", _CHANGED + " | reset*"),
    ("DeleteKeyPair", "key ?pairs? | 키 ?페어", _DELETED),
    ("CreateKeyPair", "key ?pairs? | 키 ?페어", _CREATED),
    (
        "GetSecretValue",
        "secrets? | 시크릿 | 보안 암호",
        "read | retriev* | access* | fetch* | 조회 | 읽 | 꺼낸",
    ),
    ("DeleteSecret", "secrets? | 시크릿 | 보안 암호", _DELETED),
    (
        "PutPublicAccessBlock",
        "public access block | block public access | 퍼블릭 액세스 차단",
        _CHANGED + " | " + _DISABLED,
    ),
    ("DeleteStack", "stacks? | cloudformation | 스택 | 클라우드 ?포메이션", _DELETED),
    ("UpdateStack", "stacks? | cloudformation | 스택 | 클라우드 ?포메이션", _CHANGED),
    ("CreateStack", "stacks? | cloudformation | 스택 | 클라우드 ?포메이션", _CREATED),
    ("DeleteLoadBalancer", "load balancers? | alb | nlb | elb | 로드 ?[밸발]런서", _DELETED),
    ("CreateLoadBalancer", "load balancers? | alb | nlb | elb | 로드 ?[밸발]런서", _CREATED),
    (
        "ChangeResourceRecordSets",
        "route ?53 | dns | record sets? | hosted zones? | 라우트 ?53 | 레코드 | 호스팅 영역",
        _CHANGED + " | " + _CREATED + " | " + _DELETED,
    ),
    ("DeleteLogGroup", "log groups? | 로그 ?그룹", _DELETED),
    ("DeleteCluster", "clusters? | eks | ecs | 클러스터", _DELETED),
    ("CreateDBSnapshot", "db snapshots? | rds snapshots? | rds 스냅샷 | db 스냅샷", _CREATED),
    ("DeleteDBSnapshot", "db snapshots? | rds snapshots? | rds 스냅샷 | db 스냅샷", _DELETED),
    ("DeleteSnapshot", "snapshots? | 스냅샷", _DELETED),
    ("CreateSnapshot", "snapshots? | 스냅샷", _CREATED),
    ("DeregisterImage", "amis? | machine images?", _DELETED + " | deregister*"),
    ("DeleteDBInstance", "rds | databases? | db | db instances? | 데이터베이스 | 디비", _DELETED),
    ("StartDBInstance", "rds | databases? | db | 데이터베이스 | 디비", _STARTED),
    ("StopDBInstance", "rds | databases? | db | 데이터베이스 | 디비", _STOPPED),
    (
        "RebootDBInstance",
        "rds | databases? | db | 데이터베이스 | 디비",
        "reboot* | restart* | 재부팅 | 재시작",
    ),
    ("ModifyDBInstance", "rds | databases? | db | 데이터베이스 | 디비", _CHANGED),
    ("CreateDBInstance", "rds | databases? | db | 데이터베이스 | 디비", _CREATED),
    ("DeleteTable", "dynamo ?db | tables? | 테이블 | 다이나모 ?디비", _DELETED),
    ("CreateTable", "dynamo ?db | tables? | 테이블 | 다이나모 ?디비", _CREATED),
    ("DeleteFunction", "lambdas? | functions? | 람다 | 함수", _DELETED),
    (
        "UpdateFunctionConfiguration",
        "(?:lambda|function)s?[a-z ]* (?:config*|settings?|timeout|memory|environment) | (?:람다|함수) ?(?:의 )?(?:설정|구성|메모리|환경)",
        _CHANGED,
    ),
    ("UpdateFunctionCode", "lambdas? | functions? | 람다 | 함수", _CHANGED + " | deploy* | 배포"),
    ("CreateFunction", "lambdas? | functions? | 람다 | 함수", _CREATED),
    ("DeleteAlarms", "alarms? | 알람 | 경보", _DELETED),
    ("DetachVolume", "volumes? | ebs | vol-[0-9a-f]{8,17} | 볼륨", "detach* | 분리 | 떼"),
    ("AttachVolume", "volumes? | ebs | vol-[0-9a-f]{8,17} | 볼륨", "attach* | 연결 | 붙"),
    (
        "ModifyVolume",
        "volumes? | ebs | vol-[0-9a-f]{8,17} | 볼륨",
        _CHANGED + " | resiz* | enlarg* | extend* | 늘[렸린] | 키[웠운]",
    ),
    ("DeleteVolume", "volumes? | ebs | vol-[0-9a-f]{8,17} | 볼륨", _DELETED),
    ("CreateVolume", "volumes? | ebs | 볼륨", _CREATED),
    ("DeleteVpc", "vpcs?", _DELETED),
    ("CreateVpc", "vpcs?", _CREATED),
    ("DeleteSubnet", "subnets? | 서브넷", _DELETED),
    ("DeleteRoute", "routes? | 라우트 | 라우팅", _DELETED),
    ("ReleaseAddress", "elastic ips? | eips? | 탄력적 ip", _DELETED + " | releas* | 해제 | 반납"),
    (
        "ModifyInstanceAttribute",
        "instance (?:type|attribute)s? | 인스턴스 ?(?:유형|타입|속성)",
        _CHANGED + " | resiz*",
    ),
    ("DeleteUser", "users? | 사용자 | 유저", _DELETED),
    ("CreateUser", "users? | 사용자 | 유저", _CREATED),
    (
        "TerminateInstances",
        "instances? | ec2 | servers? | i-[0-9a-f]{8,17} | 인스턴스 | 서버",
        "terminat* | " + _DELETED + " | 종료",
    ),
    (
        "RebootInstances",
        "instances? | ec2 | servers? | i-[0-9a-f]{8,17} | 인스턴스 | 서버",
        "reboot* | restart* | 재부팅 | 재시작",
    ),
    ("StopInstances", "instances? | ec2 | servers? | i-[0-9a-f]{8,17} | 인스턴스 | 서버", _STOPPED),
    (
        "RunInstances",
        "instances? | ec2 | servers? | 인스턴스 | 서버",
        "launch* | " + _CREATED + " | 띄웠 | 띄운",
    ),
    ("StartInstances", "instances? | ec2 | servers? | i-[0-9a-f]{8,17} | 인스턴스 | 서버", _STARTED),
)
# How a CloudTrail event name begins: any of these followed by a capital letter.
EVENT_VERBS = (
    "Accept Add Allocate Apply Assign Associate Assume Attach Authorize Batch Cancel Change Complete "
    "Console Copy Create Deactivate Delete Deregister Detach Disable Disassociate Enable Get Import Invoke "
    "Issue List Lookup Modify Publish Purchase Put Reboot Register Reject Release Remove Replace Request Reset "
    "Restore Revoke Rotate Run Schedule Send Set Start Stop Switch Tag Terminate Untag Update Upload"
)

METRICS: tuple[tuple[str, str], ...] = (
    ("CPUUtilization", "cpu ?utili[sz]ation | cpu ?usage | cpu load | cpu | processor | 씨피유 | 시피유"),
    ("CPUCreditBalance", "cpu ?credit ?balance | cpu credits? | cpu 크레딧"),
    ("mem_used_percent", "mem_used_percent | memory | ram usage | 메모리"),
    ("disk_used_percent", "disk_used_percent | disk (?:usage|space|full|utilization) | 디스크"),
    (
        "FreeStorageSpace",
        "free ?storage ?space | free storage | storage space | storage left | remaining storage | "
        "남은 저장 | 저장 ?공간 | 스토리지 공간 | 스토리지 여유 | 여유 공간 | 남은 스토리지",
    ),
    ("FreeableMemory", "freeable ?memory | free memory | 여유 메모리 | 남은 메모리"),
    (
        "DatabaseConnections",
        "database ?connections? | (?:db|rds|aurora) ?connections? | connection count | 커넥션 | db 연결 | 접속자 수",
    ),
    ("ReadLatency", "read ?latency | 읽기 지연"),
    ("WriteLatency", "write ?latency | 쓰기 지연"),
    ("ReplicaLag", "replica ?lag | replication (?:lag|delay) | 복제 지연"),
    ("HTTPCode_Target_5XX_Count", "httpcode_target_5xx_count | target 5xx"),
    ("HTTPCode_ELB_5XX_Count", "httpcode_elb_5xx_count | 5xx* | 50[234]s | 50[234] errors? | 50[234] 에러"),
    ("HTTPCode_ELB_4XX_Count", "httpcode_elb_4xx_count | 4xx*"),
    (
        "UnHealthyHostCount",
        "un ?healthy ?host ?count | unhealthy (?:hosts?|targets?) | 비정상 (?:호스트|타깃|타겟|대상)",
    ),
    ("TargetResponseTime", "target ?response ?time | response time | 응답 ?속도 | 응답 ?시간"),
    ("RequestCount", "request ?count | requests? per second | request rate | 요청 ?수 | 요청 ?건수"),
    ("Throttles", "(?:lambda|function) throttles? | 람다 쓰로틀링 | 람다 스로틀링"),
    ("ThrottledRequests", "throttled ?requests? | throttl* | 쓰로틀 | 스로틀 | 스로틀링"),
    ("ConcurrentExecutions", "concurrent ?executions? | concurrency | 동시 ?실행"),
    ("Invocations", "invocations? | invoked | 호출 ?횟수 | 호출 ?수"),
    ("Duration", "durations? | execution time | run ?time in ms | 실행 ?시간 | 수행 ?시간"),
    ("Latency", "latency | latencies | 지연 ?시간 | 레이턴시"),
    ("ApproximateAgeOfOldestMessage", "age of (?:the )?oldest message | approximateageofoldestmessage"),
    (
        "ApproximateNumberOfMessagesVisible",
        "approximatenumberofmessagesvisible | messages? (?:are )?(?:waiting|visible|in)"
        " | queue (?:depth|length|backlog) | 쌓인 메시지 | 밀린 메시지 | 메시지[가는도]? ?[가-힣 ]*(?:밀려|밀렸|적체) | 메시지가? [가-힣 ]*쌓 | 대기열 길이 | 메시지 ?수",
    ),
    ("CacheHitRate", "cache ?hit ?rate | hit (?:rate|ratio) | 적중률 | 히트율"),
    (
        "StatusCheckFailed",
        "status ?check ?failed | status checks? fail* | status checks? | 상태 ?(?:검사|확인) 실패 | 상태 검사",
    ),
    ("NetworkOut", "network ?out | outbound traffic | egress traffic | 아웃바운드 트래픽 | 송신 트래픽"),
    (
        "NetworkIn",
        "network ?in | network traffic | inbound traffic | traffic | 네트워크 | 트래픽 | 인바운드 트래픽",
    ),
    ("BucketSizeBytes", "bucket ?size ?bytes | bucket size | 버킷 (?:크기|용량)"),
    ("EstimatedCharges", "estimated ?charges | 예상 요금"),
    ("HealthyHostCount", "(?<!un)healthy ?host ?count"),
    ("VolumeReadOps", "volume ?read ?ops | read iops | 읽기 iops"),
    ("VolumeWriteOps", "volume ?write ?ops | write iops | 쓰기 iops"),
    ("VolumeQueueLength", "volume ?queue ?length | disk queue"),
    ("SwapUsage", "swap ?usage | swap | 스왑"),
    ("NetworkPacketsIn", "network ?packets ?in"),
    ("NetworkPacketsOut", "network ?packets ?out"),
    ("IncomingLogEvents", "incoming ?log ?events"),
    ("IncomingBytes", "incoming ?bytes"),
    ("NumberOfObjects", "number ?of ?objects | object count | 객체 ?수"),
    ("ActiveConnectionCount", "active ?connection ?count | active connections"),
    (
        "Errors",
        "(?:lambda|function)s? [^.!?]{0,40}errors?(?! logs?) | error counts? | error rates? | errors? of (?:the |our )?(?:lambda|function)s? | lambda errors? | function errors?"
        " | (?:람다|함수) (?:에러|오류) | 에러 ?(?:개수|수|율|건수) | 오류 ?(?:개수|수|율|건수)",
    ),
)

ENVIRONMENTS = (
    "production | prod | prd | staging | stage | stg | development | dev | test | testing | qa | sandbox | sbx | "
    "shared services | logging | log archive | backup | 운영 | 개발 | 스테이징 | 테스트 | 검증 | 샌드박스 | 프로덕션"
)

TIME_ZONES: tuple[tuple[str, str], ...] = (
    ("UTC", "utc | gmt | 협정 세계시 | 세계 표준시"),
    (
        "Asia/Seoul",
        "kst | korea(?:n)? (?:standard )?time | seoul time | 한국 ?(?:표준)? ?시간?? ?기준 | 한국 ?시간 | 한국 표준시 | 서울 시간",
    ),
    ("Asia/Tokyo", "jst | japan(?:ese)? (?:standard )?time | tokyo time | 일본 ?(?:표준)?시간 | 도쿄 ?시간"),
    (
        "America/Los_Angeles",
        "pst | pdt | pacific (?:standard |daylight )?time | (?:los angeles|la|seattle|san francisco|california) time | (?:la|엘에이|로스앤젤레스|시애틀|샌프란시스코) ?시간 | 태평양 표준시 | 태평양 시간",
    ),
    (
        "America/New_York",
        "est | edt | eastern (?:standard |daylight )?time | (?:new york|nyc|boston|washington) time | (?:뉴욕|보스턴|워싱턴) ?시간 | 동부 표준시 | 동부 시간",
    ),
    (
        "America/Chicago",
        "cst | cdt | central (?:standard |daylight )?time | (?:chicago|dallas|texas) time | 시카고 ?시간 | 미국 중부 시간",
    ),
    ("America/Denver", "mst | mdt | mountain (?:standard |daylight )?time | denver time"),
    ("Europe/Paris", "paris time | french time | 파리 ?시간"),
    (
        "Europe/Berlin",
        "cet | cest | (?:berlin|frankfurt|german) time | (?:베를린|프랑크푸르트|독일) ?시간 | 중부 유럽 시간",
    ),
    ("Europe/London", "bst | (?:london|uk|british) time | (?:런던|영국) ?시간"),
    ("Asia/Singapore", "sgt | singapore time | 싱가포르 시간"),
    ("Asia/Kolkata", "ist | india(?:n)? (?:standard )?time | mumbai time | (?:인도|뭄바이) ?시간"),
    ("Asia/Shanghai", "(?:china|beijing|shanghai) time | (?:중국|베이징|상하이) ?시간"),
    ("Asia/Dubai", "dubai time | 두바이 ?시간"),
    ("America/Sao_Paulo", "s[aã]o paulo time | 상파울루 ?시간"),
    ("Australia/Sydney", "aest | aedt | sydney time | 시드니 시간"),
)
