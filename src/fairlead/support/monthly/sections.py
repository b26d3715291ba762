"""The sections of the monthly report, one function for each."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from fairlead.support.charts import day_columns, ring
from fairlead.support.markup import Markup, element, joined
from fairlead.support.model import Language, Severity
from fairlead.support.monthly import judging
from fairlead.support.monthly.cells import (
    DASH,
    Cell,
    Page,
    absent,
    code,
    empty,
    figure_text,
    name,
    place,
    section,
    table,
    tag,
    titled,
    unread,
    verdict,
    worst_first,
)
from fairlead.support.monthly.judging import of_row, old_keys
from fairlead.support.monthly.model import (
    WATCHED,
    AdvisorCheck,
    Alarm,
    Bucket,
    Database,
    Event,
    Function,
    Instance,
    OpenRule,
    Part,
    Risk,
    State,
    User,
    Volume,
)
from fairlead.support.monthly.words import CATEGORIES


def _resources(page: Page, part: Part, head: tuple[str, ...], cells: Any) -> Markup:
    """A section that lists every resource of a part, the worst first."""
    rows = worst_first(page, part, of_row(page.issues, part))
    listed = table(page, head, (cells(row) for row in rows), of=len(rows)) if rows else empty(page, part)
    return section(page, part, page.part(part), listed, count=figure_text(page, page.figures[part.value]))


def instances(page: Page) -> Markup:
    """EC2 instances."""

    def cells(row: Instance) -> list[Cell]:
        return [
            titled(row),
            row.type,
            row.state,
            place(row.region),
            code(row.public_ip) if row.public_ip else absent(),
            verdict(page, row, "imdsv2"),
            verdict(page, row, "monitoring", good=None),
            verdict(page, row, "delete_on_termination", good=None),
        ]

    head = (
        "name", "type", "state", "region", "public_ip", "imdsv2", "monitoring", "delete_on_termination",
    )  # fmt: skip
    return _resources(page, Part.INSTANCES, head, cells)


def buckets(page: Page) -> Markup:
    """S3 buckets."""

    def cells(row: Bucket) -> list[Cell]:
        return [
            name(row.name),
            place(row.region),
            _encryption(page, row),
            _versioning(page, row),
            verdict(page, row, "blocks_public"),
        ]

    return _resources(
        page, Part.BUCKETS, ("name", "region", "encryption", "versioning", "blocks_public"), cells
    )


def _encryption(page: Page, row: Bucket) -> Markup:
    if row.encryption == "none":
        return element("span", {"class": "fault"}, f"✕ {page.word('no_encryption')}")
    return verdict(page, row, "encryption", text=row.encryption)


def _versioning(page: Page, row: Bucket) -> Markup:
    if row.versioning is None:
        return unread(page, row.unread.get("versioning", ""))
    on = row.versioning == "enabled"
    said = page.word(row.versioning) if row.versioning in ("enabled", "suspended", "off") else row.versioning
    return element("span", {"class": "fine" if on else "fault"}, "✓ " if on else "✕ ", name(said))


def databases(page: Page) -> Markup:
    """RDS databases."""

    def by_cluster(row: Database, field: str) -> Cell:
        if row.in_cluster:
            return element("span", {"class": "soft"}, page.word("of_cluster"))
        return verdict(page, row, field)

    def backups(row: Database) -> Cell:
        text = page.word("days").format(row.backup_days or 0)
        if row.backup_days is None or row.backup_days >= judging.MIN_BACKUP_DAYS:
            return verdict(page, row, "backup_days", text=text)
        return element("span", {"class": "fault"}, f"✕ {text}")

    def cells(row: Database) -> list[Cell]:
        return [
            name(row.name),
            row.engine,
            row.instance_class,
            place(row.region),
            by_cluster(row, "multi_az"),
            verdict(page, row, "encrypted"),
            backups(row),
            by_cluster(row, "deletion_protection"),
            verdict(page, row, "public", good=False),
        ]

    head = (
        "name", "engine", "class", "region", "multi_az", "encrypted", "backup", "deletion_protection",
        "public",
    )  # fmt: skip
    return _resources(page, Part.DATABASES, head, cells)


def functions(page: Page) -> Markup:
    """Lambda functions."""
    broken = of_row(page.issues, Part.FUNCTIONS)

    def cells(row: Function) -> list[Cell]:
        runtime = row.runtime or page.word("image")
        return [
            name(row.name),
            element("span", {"class": "fault"}, "✕ ", name(runtime)) if id(row) in broken else name(runtime),
            place(row.region),
            f"{row.memory_mb:,} MB",
            f"{row.timeout_s:,} s",
            code(row.vpc) if row.vpc else absent(),
            page.word("customer_key" if row.customer_key else "aws_key"),
        ]

    head = ("name", "runtime", "region", "memory", "timeout", "vpc", "key")
    return _resources(page, Part.FUNCTIONS, head, cells)


def volumes(page: Page) -> Markup:
    """EBS volumes that are not encrypted, or of which that is not known."""

    def cells(row: Volume) -> list[Cell]:
        return [
            titled(row),
            place(row.region),
            f"{row.size_gib:,} GiB",
            row.type,
            code(row.attached_to) if row.attached_to else page.word("not_attached"),
            verdict(page, row, "encrypted"),
        ]

    rows = [row for row in page.data.volumes if not row.encrypted]
    head = ("name", "region", "size", "type", "attached", "encrypted")
    listed = (
        table(page, head, (cells(row) for row in rows), of=len(rows))
        if rows
        else empty(page, Part.VOLUMES, "volumes_none" if page.data.volumes else "none")
    )
    figure = page.issues["volume_in_the_clear"].figure
    return section(page, Part.VOLUMES, page.word("volumes_h"), listed, count=figure_text(page, figure))


def bucket_issues(page: Page) -> Markup:
    """Buckets with issues and what they are."""
    broken = of_row(page.issues, Part.BUCKETS)
    rows = [row for row in worst_first(page, Part.BUCKETS, broken) if id(row) in broken]

    def said(row: Any) -> Markup:
        return joined(
            *(
                element("span", {"class": "said"}, tag(rule.severity, page), page.rule(rule.id)[0])
                for rule in broken[id(row)]
            )
        )

    listed = (
        table(
            page,
            ("name", "region", "issues"),
            ([name(r.name), place(r.region), said(r)] for r in rows),
            of=len(rows),
        )
        if rows
        else empty(page, Part.BUCKETS, "bucket_issues_none" if page.data.buckets else "none")
    )
    unsure = any("account_block" in row.unread for row in page.data.buckets)
    note = element("p", {"class": "soft"}, page.word("account_block")) if unsure else None
    return section(
        page, Part.BUCKETS, page.word("bucket_issues_h"), listed, note,
        count=figure_text(page, page.figures["buckets_with_issues"]), anchor="bucket_issues",
    )  # fmt: skip


def users(page: Page) -> Markup:
    """The root user and IAM users."""
    now = page.data.finished_at

    def keys(row: User) -> Cell:
        if row.keys is None:
            return unread(page, row.unread.get("keys", ""))
        if not row.keys:
            return element("span", {"class": "soft"}, page.word("no_keys"))
        old = set(old_keys(row.keys, now) or ())
        said = []
        for key in row.keys:
            age = page.word("days").format((now - key.created).days)
            tone = "fault" if key in old else "fine" if key.active else "soft"
            mark = "✕ " if key in old else "✓ " if key.active else f"{page.word('inactive')} "
            said.append(element("span", {"class": f"said {tone}"}, mark, joined(name(key.id), f" {age}")))
        return joined(*said)

    def mfa(row: User) -> Cell:
        needless = row.password is False and row.mfa is False
        return absent() if needless else verdict(page, row, "mfa")

    rows: Any = worst_first(page, Part.USERS, of_row(page.issues, Part.USERS))
    cells = ([name(row.name), verdict(page, row, "password", good=None), mfa(row), keys(row)] for row in rows)
    listed = (
        table(page, ("user", "password", "mfa", "keys"), cells, of=len(rows))
        if rows
        else empty(page, Part.USERS)
    )
    return joined(
        _root(page),
        section(
            page, Part.USERS, page.part(Part.USERS), listed, count=figure_text(page, page.figures["users"])
        ),
    )


def _root(page: Page) -> Markup:
    lines = [
        element("li", None, f"{page.word(word)} ", verdict(page, row, field, good=good))
        for row in page.data.root
        for word, field, good in (("root_mfa", "mfa", True), ("root_keys", "keys", False))
    ]
    return section(page, Part.ROOT, page.word("root_h"), element("ul", {"class": "plain"}, *lines))


def open_rules(page: Page) -> Markup:
    """Rules of security groups that let in the internet; single web ports are counted only."""
    severity = {
        Risk.EVERYTHING: Severity.CRITICAL,
        Risk.SENSITIVE: Severity.HIGH,
        Risk.OTHER: Severity.MEDIUM,
    }

    def opens(row: OpenRule) -> Markup:
        return element(
            "span", {"class": f"tag {severity[row.risk].value}"}, page.word(f"risk_{row.risk.value}")
        )

    def cells(row: OpenRule) -> list[Cell]:
        return [
            opens(row),
            titled(row),
            place(row.region),
            page.word("everything")
            if row.protocol == "all"
            else joined(name(row.protocol.upper()), f" {ports(page, row)}"),
            code(row.source),
            name(row.description) if row.description else absent(),
        ]

    order = list(severity)
    rows = sorted(
        (row for row in page.data.open_rules if row.risk in severity), key=lambda row: order.index(row.risk)
    )
    web = len(page.data.open_rules) - len(rows)
    head = ("opens", "group", "region", "ports", "source", "description")
    listed = (
        table(page, head, (cells(row) for row in rows), of=len(rows))
        if rows
        else empty(page, Part.OPEN_RULES, "rules_none")
    )
    note = element("p", {"class": "soft"}, page.word("rules_web").format(web)) if web else None
    return section(
        page, Part.OPEN_RULES, page.word("rules_h"), listed, note,
        count=figure_text(page, page.figures["risky_rules"]),
    )  # fmt: skip


def ports(page: Page, row: OpenRule) -> str:
    """ "22", "1000-2000", or that it is all of them."""
    if (row.first_port, row.last_port) == (0, 65535):
        return page.word("all_ports")
    return (
        str(row.first_port) if row.first_port == row.last_port else f"{row.first_port}{DASH}{row.last_port}"
    )


def trusted_advisor(page: Page) -> Markup:
    """Trusted Advisor by category, and the checks that report something."""
    part = Part.TRUSTED_ADVISOR
    if page.data.state(part) is State.UNAVAILABLE:
        note = element("p", {"class": "note", "role": "note"}, page.word("advisor_plan"))
        return section(page, part, page.part(part), note)
    names = CATEGORIES[page.language]
    counted = Counter((row.category, row.status) for row in page.data.trusted_advisor)
    categories = sorted(
        {row.category for row in page.data.trusted_advisor}, key=lambda key: (key != "security", key)
    )
    summary = table(
        page,
        ("category", "errors", "warnings", "fine"),
        (
            [names.get(key, key), *(f"{counted[key, status]:,}" for status in ("error", "warning", "ok"))]
            for key in categories
        ),
        of=len(categories),
    )
    return section(page, part, page.part(part), summary if categories else None, _advisor_checks(page))


def _advisor_checks(page: Page) -> Markup:
    tone = {"error": "high", "warning": "medium", "not_available": "informational"}

    def cells(row: AdvisorCheck) -> list[Cell]:
        own = row.name_ko if page.language is Language.KOREAN and row.name_ko else row.name
        return [
            element("span", {"class": f"tag {tone.get(row.status, 'low')}"}, _status(page, row.status)),
            name(own),
            CATEGORIES[page.language].get(row.category, row.category),
            f"{row.flagged:,}",
        ]

    order = list(tone)
    rows = sorted(
        (row for row in page.data.trusted_advisor if row.status != "ok"),
        key=lambda row: order.index(row.status) if row.status in order else len(order),
    )
    if not rows:
        return empty(page, Part.TRUSTED_ADVISOR, "advisor_none")
    return table(page, ("result", "check", "category", "flagged"), (cells(row) for row in rows), of=len(rows))


def _status(page: Page, status: str) -> str:
    return page.word(status) if status in ("ok", "warning", "error", "not_available") else status


def events(page: Page) -> Markup:
    """The critical events of the month, day by day and one by one, the latest first."""

    def cells(row: Event) -> list[Cell]:
        return [
            element("span", {"class": "when"}, page.time(row.at)),
            tag(Severity.CRITICAL if row.critical else Severity.HIGH, page),
            code(row.name),
            name(row.user),
            code(row.address) if row.address else absent(),
            name(", ".join(row.resources)) if row.resources else absent(),
            place(row.region),
            element("span", {"class": "soft"}, page.word("refused").format(row.error))
            if row.error
            else page.word("done"),
        ]

    rows = sorted(page.data.events, key=lambda row: row.at, reverse=True)
    head = ("when", "severity", "event", "who", "address", "resources", "region", "outcome")
    listed = (
        joined(_days(page), table(page, head, (cells(row) for row in rows), of=len(rows)))
        if rows
        else empty(page, Part.EVENTS, "events_none")
    )
    looked = page.word("events_looked").format(", ".join(kind.name for kind in WATCHED))
    return section(
        page, Part.EVENTS, page.word("events_h"), listed, element("p", {"class": "soft"}, looked),
        count=figure_text(page, page.figures["events"]),
    )  # fmt: skip


def _days(page: Page) -> Markup:
    days = {
        f"{day.month}/{day.day}": {"critical": critical, "high": high}
        for day, (critical, high) in judging.by_day(page.data).items()
    }
    names = {"critical": page.word("critical"), "high": page.word("high")}
    chart = day_columns(days, names, page.word("events_days"))
    return element("div", {"class": "chart wide"}, element("h3", None, page.word("events_days")), chart)


def alarms(page: Page) -> Markup:
    """Alarms by state, and those that ring or see nothing."""
    part = Part.ALARMS
    counted = Counter(row.state for row in page.data.alarms)
    classes = {"ALARM": "high", "INSUFFICIENT_DATA": "medium", "OK": "good"}
    chart = ring(
        {kind: counted[state] for state, kind in classes.items()},
        {kind: page.word(state) for state, kind in classes.items()},
        page.word("alarms"),
        partly=classes.values() if page.data.state(part) is State.PARTLY else (),
    )
    rows = sorted(
        (row for row in page.data.alarms if row.state != "OK"),
        key=lambda row: (row.state != "ALARM", row.name),
    )
    calm = "alarms_ok" if page.data.alarms else "alarms_none"
    return section(
        page, part, page.word("alarms_h"),
        element("div", {"class": "chart narrow"}, chart) if page.data.alarms else None,
        _alarm_table(page, rows) if rows else empty(page, part, calm),
        count=figure_text(page, page.figures["alarms"]),
    )  # fmt: skip


def _alarm_table(page: Page, rows: list[Alarm]) -> Markup:
    def cells() -> Iterator[list[Cell]]:
        for row in rows:
            tone = "high" if row.state == "ALARM" else "medium"
            state = page.word(row.state) if row.state in ("ALARM", "INSUFFICIENT_DATA") else row.state
            yield [
                element("span", {"class": f"tag {tone}"}, state),
                name(row.name),
                name(row.watches) if row.watches else absent(),
                place(row.region),
                element("span", {"class": "when"}, page.time(row.since)) if row.since else "",
                verdict(page, row, "has_action"),
            ]

    head = ("state", "alarm", "watches", "region", "since_when", "action")
    return table(page, head, cells(), of=len(rows))


SECTIONS = (
    instances, buckets, databases, functions, volumes, bucket_issues, users, open_rules, trusted_advisor,
    events, alarms,
)  # fmt: skip
