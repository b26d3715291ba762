"""What the routes of jobs share: the opened parts, what an agent's ticket is about, a record's findings."""

import asyncio
from dataclasses import dataclass
from datetime import date
from zoneinfo import ZoneInfo

from fairlead.kernel.clock import utc_now
from fairlead.kernel.errors import Conflict
from fairlead.kernel.objects import ObjectStore
from fairlead.kernel.runs import Runs
from fairlead.support import accounts, findings, links, records
from fairlead.support.door import SupportDoor
from fairlead.support.model import Agent, Customer, Screening
from fairlead.support.records import FINDINGS, SCREENING, Record, RecordUnknown

DAY_ZONE = ZoneInfo("Asia/Seoul")  # whose days acceptances count by where no customer says otherwise


class NotAScreening(Conflict):
    """Only screenings can be compared."""

    code = "support.not_a_screening"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobsDoor:
    """What the routes need."""

    support: SupportDoor
    runs: Runs
    objects: ObjectStore

    @property
    def link_key(self) -> bytes:
        """What signs links, and nothing else."""
        return links.key_of(self.support.key)


def today() -> date:
    """The day by which acceptances count."""
    return utc_now().astimezone(DAY_ZONE).date()


async def customer_of(door: JobsDoor, agent: Agent, ticket: str) -> Customer:
    """The customer that an agent's ticket is about. Raises what `accounts.of_ticket` raises."""
    support = door.support
    return await accounts.of_ticket(support.database, support.directory, support.installations, agent, ticket)


async def record_of(door: JobsDoor, agent: Agent, ticket: str, record_id: str) -> Record:
    """A screening or report of the agent's ticket, about the account that the ticket has now.

    Raises RecordUnknown and what `customer_of` raises.
    """
    customer = await customer_of(door, agent, ticket)

    def found() -> Record:
        with door.support.database.reading() as conn:
            return records.by_id(conn, record_id, project_id=agent.project_id)

    record = await asyncio.to_thread(found)
    if (record.installation, record.ticket, record.account) != (agent.installation, ticket, customer.account):
        raise RecordUnknown(remedy="Open the report from its own ticket.")
    return record


async def screening_of(door: JobsDoor, record: Record) -> Screening:
    """What a screening found. Raises NotAScreening, RecordUnknown, ObjectMissing."""
    if record.kind != SCREENING:
        raise NotAScreening(
            f"{record.id} is a {record.kind}.", remedy="List the records with kind=screening."
        )
    content = await door.objects.get(records.present(record).key(FINDINGS))
    return await asyncio.to_thread(findings.read_screening, content, name=record.id)
