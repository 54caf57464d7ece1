"""`twinlock dlq`: dead letters, what was given up and why, and the way back."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from cli.command import command
from cli.output import Failure, Result, listing
from cli.session import Session
from cli.wiring.auditing import note
from events import dead_letters
from events.dead_letters import DeadLetter

MOST = 2**63 - 1  # what the database can hold

noun = typer.Typer(help="Dead letters: events that a worker gave up on.")


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.add_typer(noun, name="dlq")


@command(noun, "list")
async def show_all(session: Session) -> Result:
    """List the dead letters."""
    found = [_document(letter) for letter in await _letters(session)]
    return listing(found, ("id", "type", "consumer", "attempts", "reason"), "no dead letters")


@command(noun, "retry", waits=True)
async def retry(
    session: Session,
    ids: Annotated[
        list[int] | None, typer.Argument(metavar="[ID]...", min=1, max=MOST, help="Which; default: all.")
    ] = None,
) -> Result:
    """Deliver dead letters again."""
    chosen = [letter for letter in await _letters(session) if not ids or letter.number in ids]
    async with session.parts.store.begin(session.cause) as unit:
        count = await dead_letters.retry(unit, set(ids) if ids else None)
        if count:
            letters = [f"{letter.consumer}/{letter.id}" for letter in chosen]
            await note(session.parts, unit, "dead-letters-retried", letters=letters, count=count)
    if session.wait:
        for correlation in sorted({letter.correlation for letter in chosen}):
            await session.settle(correlation)
    again = await _given_up_again(session, chosen) if session.wait else 0
    failure = Failure(f"{again} of {count} were given up again", "see: twinlock dlq list") if again else None
    return Result({"retried": count, "failed": again}, [f"delivered {count} again"], failure)


async def _given_up_again(session: Session, chosen: list[DeadLetter]) -> int:
    names = {(letter.consumer, letter.source, letter.id) for letter in chosen}
    return sum(1 for letter in await _letters(session) if (letter.consumer, letter.source, letter.id) in names)


async def _letters(session: Session) -> list[DeadLetter]:
    async with session.parts.store.read() as reader:
        return list(await dead_letters.listing(reader))


def _document(letter: DeadLetter) -> dict[str, Any]:
    document = asdict(letter)
    event, number = document.pop("id"), document.pop("number")
    return {**document, "id": number, "event": event, "at": letter.at.isoformat()}
