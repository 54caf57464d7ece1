"""The program `twinlock`: parse, run one command, exit with its code."""

import os
import sys

import typer
from typer.exceptions import TyperException
from typer.main import get_command

from cli.command import Flags
from cli.commands import (
    alerts,
    approval,
    approver,
    audit,
    broker,
    cost,
    database,
    demo,
    dlq,
    drill,
    errors,
    init,
    key,
    mailbox,
    policy,
    publish,
    publisher,
    purge,
    recovery,
    restore,
    schema,
    site,
    status,
    tenant,
    vault,
    webhook,
    worker,
)
from cli.failures import USAGE
from cli.options import Home, Verbose
from cli.output import Failure, complain

app = typer.Typer(
    name="twinlock",
    help="Service encryption with customer keys: two root keys in two vaults for every policy.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_CONTENT = (mailbox, site)
_PEOPLE = (tenant, approver, approval)
_BREAK_GLASS = (recovery, purge, drill, restore)
_OPERATIONS = (publish, publisher, dlq, broker, database, worker, schema, status, errors, alerts, webhook, audit, cost)
_NOUNS = (init, *_PEOPLE, key, vault, policy, *_BREAK_GLASS, *_CONTENT, *_OPERATIONS)
for module in _NOUNS:
    module.register(app)


@app.callback()
def _shared(context: typer.Context, home: Home = None, verbose: Verbose = False) -> None:
    flags = context.ensure_object(Flags)
    flags.home, flags.verbose = home, verbose


demo.register(app, lambda arguments, flags: run(arguments, flags))


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit; what a command makes is for its owner's eyes alone."""
    os.umask(0o077)
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str], flags: Flags | None = None) -> int:
    """Run one command and return its exit code."""
    program = get_command(app)
    try:
        code = program.main(args=arguments or ["--help"], prog_name="twinlock", standalone_mode=False, obj=flags)
    except typer.Abort:
        raise KeyboardInterrupt from None  # which the parser puts into its own words
    except TyperException as refused:
        complain(_usage(refused))
        return USAGE
    return code if isinstance(code, int) else 0


def _usage(refused: TyperException) -> Failure:
    """Put what the parser says into our own grammar."""
    context = getattr(refused, "ctx", None)
    said = refused.format_message() if hasattr(refused, "format_message") else str(refused)
    line = " ".join(said.replace("Value error, ", "").replace(": Input should", ": it should").split()).rstrip(".")
    path = context.command_path if context else "twinlock"
    return Failure(line[:1].lower() + line[1:], f"see: {path} --help", USAGE)
