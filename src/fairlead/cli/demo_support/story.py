"""The story that the demo tells: two agents, two customers' tickets, a cut line, and who is refused."""

import http.client
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from textwrap import shorten
from typing import Any
from urllib.parse import urlencode, urlsplit

from fairlead.cli import output
from fairlead.cli.demo.story import DemoFailed, Times, fresh
from fairlead.cli.demo_support import needs, stage, world
from fairlead.cli.demo_support.sidebar import ENDS, Heard, Sidebar, Timed, opened
from fairlead.cli.demo_support.stage import (
    BLUEWAVE,
    BLUEWAVE_TICKET,
    EMMA,
    HANBIT,
    HANBIT_TICKET,
    MINJI,
    PROJECT,
    STRAY_TICKET,
    Setter,
    Stage,
)
from fairlead.cli.demo_support.world import Estate
from fairlead.cli.demo_support.zendesk import ORIGIN, Person, Zendesk
from fairlead.kernel import telemetry

CUT_AT_PERCENT = 20
MISSED = 3  # events that the server writes while the line is cut, at least


def tell(data_dir: Path, toolenvs: Path, *, as_json: bool) -> None:
    """The demo, from an empty folder to the table of timings. Raises DemoFailed."""
    telemetry.configure(level="warning", form="text")
    times, began = Times(), time.perf_counter()
    fresh(data_dir)
    story = Story(data_dir.absolute(), toolenvs.absolute(), times, quiet=as_json)
    with ExitStack() as stack:
        try:
            story.tell(stack)
        except KeyboardInterrupt:
            story.out.print("\nstopping …", style="dim")
            raise
        except AssertionError as error:  # of what should be seen in the browser
            log = data_dir / "serve.log"
            raise DemoFailed(str(error), remedy=f"Read {log}.") from error
    times.rows.append((f"{len(story.pictures)} pictures", story.taking_s()))
    times.rows.append(("everything else", time.perf_counter() - began - sum(row[1] for row in times.rows)))
    if not as_json:
        times.show()
        story.out.print(f"\npictures: {data_dir}/pictures", markup=False)
        return
    output.as_json(
        {
            "seconds": round(time.perf_counter() - began, 1),
            "parts": [{"part": what, "seconds": round(seconds, 2)} for what, seconds in times.rows],
            "checks": story.checks,
            "pictures": [str(path) for path in story.pictures],
        }
    )


class Story:
    """What happens, in order."""

    def __init__(self, folder: Path, toolenvs: Path, times: Times, *, quiet: bool) -> None:
        self.folder, self.toolenvs, self.times = folder, toolenvs, times
        self.out = output.console(stderr=quiet)
        self.chapter = 0
        self.checks: list[str] = []
        self.pictures: list[Path] = []
        self.desks: list[Sidebar] = []

    def tell(self, stack: ExitStack) -> None:
        """All of it. Raises DemoFailed and AssertionError where something is not as it should be."""
        on = self._set(stack)
        self._hanbit(on)
        self._colleague(on)
        self._bluewave(on)
        self._refused(on)
        self._record(on)

    def _heading(self, title: str, text: str = "") -> None:
        self.chapter += 1
        self.out.print(f"\n[bold reverse] {self.chapter} [/] [bold]{title}[/]  {text}\n")

    def _check(self, right: object, what: str) -> None:
        """Say that `what` is so. Raises DemoFailed where it is not."""
        if not right:
            raise DemoFailed(f"Not so: {what}.", remedy=f"Read {self.folder}/serve.log.")
        self.checks.append(what)
        self.out.print("[green]✓[/] ", end="")
        self.out.print(what, markup=False)

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        """Time a block; pictures that are taken in it are counted apart."""
        began, before = time.perf_counter(), self.taking_s()
        yield
        self.times.rows.append((what, time.perf_counter() - began - (self.taking_s() - before)))

    def taking_s(self) -> float:
        """Seconds spent on pictures."""
        return sum(desk.taking_s for desk in self.desks)

    @contextmanager
    def _desk(self, on: Stage, agent: Person, ticket: int) -> Iterator[Sidebar]:
        with opened(on.browser, on.zendesk, agent, ticket, on.pictures_dir) as desk:
            self.desks.append(desk)
            self.times.rows.append((f"{agent.name} opens #{ticket}", desk.opened_s))
            try:
                yield desk
            finally:
                self.pictures += desk.taken

    def _say(self, text: str) -> None:
        self.out.print(text, markup=False)

    # --- the stage -------------------------------------------------------------------------------

    def _set(self, stack: ExitStack) -> Stage:
        with self._timed("programs, browser, font (only installed once)"), self.out.status("") as status:
            executable = needs.install(self.toolenvs, lambda what: status.update(f"{what} …"))
        setter = Setter(self.folder, self.toolenvs, stack)
        self._heading("A local AWS, three accounts", "trust policies, ExternalIds and IAM are enforced")
        with self._timed("local AWS with two customers"):
            aws, keys, hub = setter.local_aws()
            for estate in (HANBIT, BLUEWAVE):
                world.furnish(aws, estate)
        for estate in (HANBIT, BLUEWAVE):
            self._say(
                f"{estate.account}  {estate.name}: a public bucket, a security group open to the world, "
                f"people without MFA,\n{'':14}an unencrypted volume, an alarm that rings; "
                f"{estate.people[0]} deleted {estate.gone}"
            )
        self._heading("Server, worker, Zendesk, browser")
        with self._timed("start: API, worker"):
            admin = setter.server(aws, keys, hub)
        with self._timed("customers, package, Chromium"):
            for estate in (HANBIT, BLUEWAVE):
                stage.take_on(admin, aws, estate)
            made = setter.package()
            browser = setter.chromium(executable)
        on = Stage(self.folder, aws, admin, setter.zendesk, setter.line, browser, made)
        same = stage.served_as_packaged(on)
        self._check(same, f"the app's package is valid, and the server serves its {same} files unchanged")
        self._say(
            "Zendesk is played: its page, signatures, API and proxy. App, server, worker, MCP servers and\n"
            "browser are the real ones."
        )
        return on

    # --- the first customer ----------------------------------------------------------------------

    def _hanbit(self, on: Stage) -> None:
        self._heading(f"{MINJI.name} opens ticket #{HANBIT_TICKET.number}", "in Korean")
        with self._desk(on, MINJI, HANBIT_TICKET.number) as desk:
            self._check(
                HANBIT.account in desk.texts(".account")[0],
                f"signed in by Zendesk's signature; the ticket's account is {HANBIT.account}",
            )
            desk.picture("01-opened-ko")
            self._questions(desk)
            screening = self._cut(on, desk)
            self._report(on, desk, screening, HANBIT)
            self._monthly(desk)
            complaints = [one for one in desk.page.complaints if not one.startswith("WebSocket connection")]
            self._check(
                not complaints, "the browser complained about nothing but the cut line" + "".join(complaints)
            )

    def _questions(self, desk: Sidebar) -> None:
        self._asked(desk, f"{HANBIT.gone} 버킷을 누가 삭제했나요?", HANBIT.people[0], HANBIT.gone)
        desk.opened(".evidence")
        desk.picture("02-who-deleted-ko")
        self._asked(desk, "Who terminated EC2 instances today?", HANBIT.people[0])
        desk.down()
        desk.picture("03-asked-in-english")
        self._quick(desk, "alarms", f"{HANBIT.word}-web-cpu-high")
        desk.down()
        desk.picture("04-alarms-ko")
        self._inventory(desk)
        self._asked(desk, "S3 버킷을 공개하지 않으려면 어떻게 하나요?", "퍼블릭 액세스 차단")
        desk.down()
        desk.picture("07-general-ko")

    def _inventory(self, desk: Sidebar) -> None:
        """The quick action asks back, with choices."""
        with self._timed("quick action: inventory"):
            desk.quick("inventory")
        desk.down()
        desk.picture("05-asked-back-ko")
        self._say(f"{desk.texts('.item.question .text')[-1]}\n  {desk.texts('.item.clarify .text')[-1]}")
        choice = desk.texts(".item.clarify .chip")[0]
        with self._timed(f"question: {choice}"):
            timed = desk.choose(".item.clarify .chip")
        self._answered(desk, choice, timed, (f"{HANBIT.word}-web-1",))
        desk.down()
        desk.picture("06-inventory-ko")

    def _asked(self, desk: Sidebar, text: str, *expected: str) -> str:
        with self._timed(f"question: {text}"):
            timed = desk.ask(text)
        return self._answered(desk, text, timed, expected)

    def _quick(self, desk: Sidebar, action: str, *expected: str) -> str:
        with self._timed(f"quick action: {action}"):
            timed = desk.quick(action)
        return self._answered(desk, desk.texts(".item.question .text")[-1], timed, expected)

    def _answered(self, desk: Sidebar, text: str, timed: Timed, expected: Sequence[str]) -> str:
        end = [one for one in desk.heard() if one.kind in ENDS][-1]
        if end.kind != "answer":
            raise DemoFailed(f"{text!r} ended with {end.kind}: {json.dumps(end.data, ensure_ascii=False)}")
        answer = str(end.data["text"])
        missing = [word for word in expected if word not in answer]
        if missing:
            raise DemoFailed(f"The answer to {text!r} does not name {', '.join(missing)}: {answer}")
        calls = len((end.data.get("evidence") or {}).get("calls") or ())
        first = f"{timed.first_s:.1f} s to the first word, " if timed.first_s is not None else ""
        self.out.print(f"[bold]{text}[/]  [dim]{first}{timed.whole_s:.1f} s, {calls} calls[/]")
        self._say(f"  {shorten(answer.strip().splitlines()[0], 100, placeholder=' …')}")
        return answer

    def _cut(self, on: Stage, desk: Sidebar) -> Heard:
        """A screening during which the line is cut; its report's event."""
        self._heading("A screening, and the line is cut", "in the middle of it")
        with self._timed("screening, line cut and mended"):
            before = len(desk.heard())
            desk.press("[data-action=screen]")
            desk.until(f"document.querySelector('[role=progressbar]')?.ariaValueNow >= {CUT_AT_PERCENT}")
            desk.picture("08-progress-ko")
            job = next(one.job for one in desk.heard()[before:] if one.kind == "progress")
            on.line.cut()
            desk.until("document.documentElement.dataset.state === 'reconnecting'")
            seen = max(one.seq for one in desk.heard() if one.job == job)
            desk.write("지금까지 열려 있는 알람이 몇 개인가요?")
            desk.down()
            desk.picture("09-cut-ko")
            missed = self._missed(on, job, seen)
            on.line.mend()
            desk.until("document.documentElement.dataset.state === 'online'")
            desk.until("document.querySelectorAll('.item.report').length === 1")
            desk.settled()
        numbers = [one.seq for one in desk.heard() if one.job == job]
        shown = desk.texts(".item.report")
        written = self._events(on, job)
        self._check(missed >= MISSED, f"{missed} messages were written while the line was cut")
        self._check(
            sorted(set(numbers)) == [*range(1, max(numbers) + 1)],
            f"all {max(numbers)} arrived, none is missing",
        )
        self._check(
            max(numbers) == written[-1] and len(shown) == 1,
            "the last one is the server's last one, and each is shown once",
        )
        asked = desk.texts(".item.question .text")
        self._check(
            sum("몇 개" in one for one in asked) == 1 and "전송" not in asked[-1],
            "what was asked while the line was cut was sent once, and answered",
        )
        desk.see(".item.report")
        desk.picture("10-back-ko")
        return next(one for one in desk.heard() if one.job == job and one.kind == "report")

    def _events(self, on: Stage, job: str) -> list[int]:
        return [one["seq"] for one in on.admin.get(f"/runs/{job}/events", limit=500)["items"]]

    def _missed(self, on: Stage, job: str, seen: int) -> int:
        """Wait until the server has written what the browser cannot hear; how much that is."""
        deadline = time.monotonic() + 60
        while (missed := self._events(on, job)[-1] - seen) < MISSED:
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)  # noqa: TID251 - the condition above is what is waited for
        return missed

    def _report(self, on: Stage, desk: Sidebar, screening: Heard, estate: Estate) -> None:
        self._heading("The report", "in the viewer, and into the ticket")
        with self._timed("open the report"):
            desk.press(".item.report .primary")
            desk.until("document.querySelector('dialog:not([aria-busy]) iframe')")
        desk.picture("11-report-ko")
        report = _read(on, desk.look("document.querySelector('dialog iframe').src"))
        self._check(
            f"{estate.word}-homepage" in report and "<script" not in report,
            f"it names {estate.word}-homepage, and has no script",
        )
        desk.press("dialog .bare[aria-label]", last=True)
        desk.until("!document.querySelector('dialog')")
        desk.press(".item.report .tools .button:nth-child(2)")
        desk.page.until("document.getElementById('comment').textContent")
        kind, text = desk.editor
        summary = str(screening.data.get("summary", ""))
        self._check(
            kind == "internalNote" and summary in text, "its summary stands in the ticket as an internal note"
        )
        self._say("  " + text.strip().replace("\n", "\n  "))
        desk.see(".item.report")
        desk.picture("12-note-ko")

    def _monthly(self, desk: Sidebar) -> None:
        self._heading("The monthly report", "of the month that runs")
        with self._timed("monthly report"):
            desk.press("[data-action=report]")
            desk.until("document.activeElement.getAttribute('role') === 'radio'")
            desk.press(".month:not(:disabled)", last=True)
            desk.picture("13-month-ko")
            desk.press(".panel .primary")
            desk.until("document.querySelectorAll('.item.report').length === 2")
            desk.settled()
        desk.down()
        desk.picture("14-monthly-ko")
        with self._timed("open the monthly report"):
            desk.press(".item.report .primary", last=True)
            desk.until("document.querySelector('dialog:not([aria-busy]) iframe')")
        desk.picture("15-monthly-report-ko")
        desk.press("dialog .bare[aria-label]", last=True)
        self._check(True, "the monthly security report is there, too")

    # --- a colleague, another customer -----------------------------------------------------------

    def _colleague(self, on: Stage) -> None:
        self._heading(f"{EMMA.name} opens the same ticket", "in English, in the dark")
        with self._desk(on, EMMA, HANBIT_TICKET.number) as desk:
            desk.until("document.querySelectorAll('.item.report').length === 2")
            desk.settled()
            self._check(
                HANBIT.people[0] in desk.everything(), "she sees what was asked, answered and reported"
            )
            desk.down()
            desk.picture("16-history-en")

    def _bluewave(self, on: Stage) -> None:
        self._heading(f"Ticket #{BLUEWAVE_TICKET.number}", f"of another customer, {BLUEWAVE.name}")
        with self._desk(on, EMMA, BLUEWAVE_TICKET.number) as desk:
            desk.picture("17-opened-en")
            self._asked(desk, f"Who deleted the bucket {BLUEWAVE.gone}?", BLUEWAVE.people[0])
            desk.opened(".evidence")
            desk.picture("18-who-deleted-en")
            self._asked(desk, f"Which buckets does account {HANBIT.account} have?")
            desk.down()
            desk.picture("19-digits-choose-nothing-en")
            with self._timed("screening of the other customer"):
                desk.press("[data-action=screen]")
                desk.until("document.querySelector('.item.report')")
                desk.settled()
            desk.down()
            desk.picture("20-screening-en")
            desk.press(".item.report .primary")
            desk.until("document.querySelector('dialog:not([aria-busy]) iframe')")
            desk.picture("21-report-en")
            report = _read(on, desk.look("document.querySelector('dialog iframe').src"))
            seen = "\n".join((desk.everything(), report, *desk.page.frames))
            # The account's number was typed into this ticket by the agent herself.
            foreign = [mark for mark in HANBIT.marks if mark != HANBIT.account and mark in seen]
            self._check(
                BLUEWAVE.word in seen and not foreign,
                f"nothing of {HANBIT.name} is in page, messages or report",
            )
            self._foreign_report(on, desk)

    # --- who is refused --------------------------------------------------------------------------

    def _foreign_report(self, on: Stage, desk: Sidebar) -> None:
        """Ask for the other customer's report with this ticket's session, as the app would."""
        path = f"/projects/{PROJECT}/support/records"
        theirs = on.admin.get(path, account=HANBIT.account)["items"][0]["id"]
        body = {"ticket": str(BLUEWAVE_TICKET.number), "url": f"/support/reports/{theirs}/report.html"}
        script = (
            "(async () => { const session = document.querySelector('meta[name=fairlead-session]').content;"
            " const answer = await fetch('/support/zendesk/links', {method: 'POST', headers:"
            " {'Content-Type': 'application/json', Authorization: `Bearer ${session}`},"
            f" body: JSON.stringify({json.dumps(body)})}});"
            " return [answer.status, (await answer.json()).code]; })()"
        )
        status, code = desk.look(script)
        self._check(status in (403, 404), f"the other customer's report: refused, {status} {code}")

    def _refused(self, on: Stage) -> None:
        self._heading("Who is refused")
        status, code = _knock(on, on.zendesk.last_token)
        self._check(status == 401, f"a token of Zendesk that was used before: {status} {code}")
        forger = Zendesk(on.zendesk.tickets, on.zendesk.agents, agent=EMMA)
        status, code = _knock(on, forger.sign())
        self._check(status == 401, f"a forged one: {status} {code}")
        with self._desk(on, EMMA, STRAY_TICKET.number) as desk:
            desk.write("Which alarms are ringing?")
            desk.until("document.querySelector('.item.error')")
            self._check(
                HANBIT.account not in desk.everything() and BLUEWAVE.account not in desk.everything(),
                "a ticket of nobody's customer: " + desk.texts(".item.error .text")[0],
            )
            desk.picture("22-no-account-en")
        self._forged_page(on, forger)

    def _forged_page(self, on: Stage, forger: Zendesk) -> None:
        forger.manifest = on.zendesk.manifest
        page = on.browser.page(
            f"{ORIGIN}/agent/tickets/{STRAY_TICKET.number}",
            stand_ins=forger.stand_ins(),
            width=1240,
            height=800,
        )
        page.call(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
        )
        page.until("document.body.textContent.includes('auth.')", origin=on.zendesk.app)
        path = on.pictures_dir / "23-forged-en-dark.png"
        page.screenshot(path)
        self.pictures.append(path)
        page.close()

    def _record(self, on: Stage) -> None:
        self._heading("What the record says", "hash-chained; who, what, which ticket and account")
        entries: list[dict[str, Any]] = on.admin.get(f"/projects/{PROJECT}/audit", limit=200)["items"]
        counted = Counter(one["action"] for one in entries if one["action"].startswith("support."))
        self._say(
            "  ".join(
                f"{action.removeprefix('support.')} {count}" for action, count in sorted(counted.items())
            )
        )
        wanted = (
            "session_opened",
            "account_opened",
            "ask",
            "screen",
            "report",
            "tool_called",
            "report_viewed",
            "inserted",
        )
        missing = [name for name in wanted if not counted[f"support.{name}"]]
        self._check(not missing, "every session, question, account, call, report and insertion is there")
        self._check(on.admin.get("/audit/verify")["intact"], "its chain is intact")
        if on.zendesk.renewed:
            self._say(f"Sessions were renewed {on.zendesk.renewed} times meanwhile, through Zendesk's proxy.")


def _read(on: Stage, url: str) -> str:
    """A report, as its link opens it."""
    status, body = _asked_of(on, "GET", url.removeprefix(on.line.url))
    if status != 200:
        raise DemoFailed(f"The report's link answers {status}.")
    return body


def _knock(on: Stage, token: str) -> tuple[int, str]:
    """Open the app's page with `token`; status and the code that the page names."""
    status, body = _asked_of(on, "POST", urlsplit(on.zendesk.location).path, urlencode({"token": token}))
    return status, body.partition("<small>")[2].partition("</small>")[0]


def _asked_of(on: Stage, method: str, path: str, form: str = "") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", on.line.port, timeout=30)
    try:
        headers = {"Content-Type": "application/x-www-form-urlencoded"} if form else {}
        connection.request(method, path, form or None, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()
