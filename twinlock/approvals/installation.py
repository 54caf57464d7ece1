"""The installation's own id: what was signed for one installation is void in every other, copies of its tenants too."""

from sqlalchemy import select

from twinlock.errors import TwinlockError
from twinlock.store.once import insert_once
from twinlock.store.tables.approvals import installation
from twinlock.store.unit import Reader, Unit, new_id


async def ensure_installation(unit: Unit) -> bool:
    """Give the installation its id, once and for good; say whether it had none."""
    return bool((await unit.execute(insert_once(unit, installation).values(number=1, id=new_id()))).rowcount)


async def read_installation(reader: Reader) -> str:
    """Return the installation's id; raise where it has none."""
    found = await reader.scalar(select(installation.c.id))
    if not isinstance(found, str):
        raise TwinlockError("this installation has no id yet", hint="run: twinlock init")
    return found
