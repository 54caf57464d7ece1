"""Make a command of an async function: shared options, one event loop, one way in which everything ends.

The function's first parameter is the `Session`; the others are typer's. It returns a `Result` and raises what it will.
"""

import asyncio
import inspect
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import typer

from cli import logs, options
from cli.entry import INTERRUPTED
from cli.failures import FAILED, UsageFault, explain, record
from cli.home import LOG
from cli.output import Failure, Result, complain, emit
from cli.progress import Shows
from cli.session import open_session
from cli.settings import Settings, load_settings

Action = TypeVar("Action", bound=Callable[..., Awaitable[Result]])


@dataclass(slots=True)
class Flags:
    """Hold the shared options; `home` and `verbose` may also stand before the noun.

    `progress` is no option: the demo, which runs commands in its own process, wishes for it.
    """

    home: Path | None = None
    verbose: bool = False
    json: bool = False
    timeout: float = options.DEFAULT_TIMEOUT
    no_wait: bool = False
    progress: Shows = Shows.NOTHING

    @property
    def shows(self) -> Shows:
        """Return what is shown of progress."""
        return self.progress or (Shows.NOTHING if self.json else Shows.BARS)


_EVERYWHERE = {"json": options.Json, "home": options.Home, "verbose": options.Verbose}
_TIMED = {"timeout": options.Timeout}
_WAITING = {"no_wait": options.NoWait}


def command(
    app: typer.Typer, name: str, *, waits: bool = False, documents: bool = True, timed: bool = True
) -> Callable[[Action], Action]:
    """Register a command that works on a home; one that `waits` for a request also takes `--no-wait`.

    One that `documents` nothing, but writes bytes as they are, takes no `--json`; one that goes on until it is
    interrupted is not `timed`.
    """
    shared = _EVERYWHERE | (_TIMED if timed else {}) | (_WAITING if waits else {})
    if not documents:
        shared = {option: kind for option, kind in shared.items() if option != "json"}

    def register(action: Action) -> Action:
        def run(settings: Settings, flags: Flags, values: dict[str, Any]) -> Result:
            async def work() -> Result:
                async with open_session(settings, flags.timeout, not flags.no_wait, flags.shows) as session:
                    return await action(session, **values)

            with asyncio.Runner() as runner:
                return runner.run(work())

        app.command(name)(_entry(action, shared, run, skip=1))
        return action

    return register


def homeless(app: typer.Typer, name: str) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Register a command that needs no home, or makes it itself; its first parameters are settings and timeout."""

    def register(action: Callable[..., Result]) -> Callable[..., Result]:
        def run(settings: Settings, flags: Flags, values: dict[str, Any]) -> Result:
            return action(settings, flags.timeout, not flags.json, **values)

        app.command(name)(_entry(action, _EVERYWHERE | _TIMED, run, skip=3))
        return action

    return register


def _entry(
    action: Callable[..., Any],
    shared: dict[str, Any],
    run: Callable[[Settings, Flags, dict[str, Any]], Result],
    skip: int,
) -> Callable[..., None]:
    def entry(context: typer.Context, **values: Any) -> None:
        flags = context.ensure_object(Flags)
        for name in shared:
            given = values.pop(name)
            if given is not None and given is not False:
                setattr(flags, name, given)
        raise typer.Exit(finish(flags, lambda settings: run(settings, flags, _legible(values))))

    own = list(inspect.signature(action, eval_str=True).parameters.values())[skip:]
    entry.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # typer reads the options here
        [_parameter("context", typer.Context, inspect.Parameter.empty)]
        + [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
        + [_parameter(name, kind, getattr(Flags(), name)) for name, kind in shared.items()]
    )
    entry.__annotations__ = {}
    entry.__doc__ = action.__doc__
    return entry


def _legible(values: dict[str, Any]) -> dict[str, Any]:
    """Refuse a name that is no UTF-8, as the command line may hold any bytes; a path may be whatever it is."""
    for value in values.values():
        for text in value if isinstance(value, list) else (value,):
            if isinstance(text, str) and any("\ud800" <= char <= "\udfff" for char in text):
                raise UsageFault(f"{text[:100]!a} is not UTF-8", hint="write it in UTF-8")
    return values


def _parameter(name: str, kind: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=default)


def finish(flags: Flags, work: Callable[[Settings], Result]) -> int:
    """Work, write what came of it, and return the exit code."""
    log_file = LOG
    try:
        settings = load_settings(flags.home)
        log_file = str(settings.home / LOG)
        logs.configure(settings.home, flags.verbose)
        result = work(settings)
        emit(result, flags.json)
    except KeyboardInterrupt:
        complain(Failure("interrupted", "what was begun goes on with the next command or a worker run"))
        return INTERRUPTED
    except BrokenPipeError as error:
        record(error)
        # What Python flushes at the end must not fail a second time.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:  # noqa: BLE001  # the last line of defence: no traceback reaches a person
        return _failed(explain(error, log_file))
    return _failed(result.failure) if result.failure else 0


def _failed(failure: Failure) -> int:
    complain(failure)
    return failure.code
