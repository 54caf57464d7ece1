"""`twinlock publish`: a request onto the bus, as a registered publisher would send it."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.command import command
from cli.output import Failure, Result
from cli.session import Session
from schemas.envelope import MAX_MESSAGE_BYTES, parse
from schemas.identifiers import RequestOutcome


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    command(app, "publish", waits=True)(publish)


async def publish(
    session: Session,
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="A CloudEvents JSON request; - is standard input.")],
) -> Result:
    """Publish a request, and wait until it has been answered."""
    body = _read(file)
    request = await session.parts.publisher.publish(body)
    envelope, _event = parse(body)
    document: dict[str, Any] = {"id": request}
    if not session.wait:
        await session.settling.dispatch(envelope.correlation)
        return Result(document, [f"published {request}"])
    await session.settle(envelope.correlation)
    answer = await session.answer(envelope.source, request)
    outcome = answer.outcome or RequestOutcome.FAILED
    document |= {"outcome": outcome.value, "detail": answer.detail}
    view = [f"published {request}: {outcome.value}: {answer.detail}"]
    failure = None if outcome is RequestOutcome.DONE else Failure(answer.detail, answer.answer.get("hint", ""))
    return Result(document, view, failure)


def _read(file: str) -> bytes:
    """Read one byte more than an event may have, however large the file is."""
    if file == "-":
        return sys.stdin.buffer.read(MAX_MESSAGE_BYTES + 1)
    with Path(file).open("rb") as source:
        return source.read(MAX_MESSAGE_BYTES + 1)
