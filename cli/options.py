"""The options that several commands share, once."""

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_TIMEOUT = 120.0

Home = Annotated[Path | None, typer.Option("--home", metavar="DIR", help="The home; default: $XDG_DATA_HOME/twinlock.")]
Verbose = Annotated[bool, typer.Option("--verbose", help="Write logs to standard error.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Timeout = Annotated[
    float, typer.Option("--timeout", metavar="S", min=0, help="Give up after so many seconds, with exit code 3.")
]
NoWait = Annotated[
    bool, typer.Option("--no-wait", help="Print the request's id at once; the next command or a worker run goes on.")
]

Tenant = Annotated[str, typer.Option("--tenant", metavar="T", help="The tenant's name.")]
OptionalTenant = Annotated[str | None, typer.Option("--tenant", metavar="T", help="Only this tenant.")]
Address = Annotated[str, typer.Argument(metavar="ADDRESS", help="The mailbox, such as ann@acme.example.")]
Site = Annotated[str, typer.Argument(metavar="SITE", help="TENANT/SITE, or the name alone where it is unique.")]
PolicyName = Annotated[
    str, typer.Argument(metavar="POLICY", help="An id, TENANT/NAME, or `service` for the provider's own.")
]
KeyUri = Annotated[str, typer.Argument(metavar="URI", help="The key, such as local://VAULT/KEY.")]
Geo = Annotated[str | None, typer.Option("--geo", metavar="G", help="The geo of the sites, such as EUR.")]
Contact = Annotated[str, typer.Option("--contact", metavar="TEXT", help="Who answers for it, such as an address.")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it stands in what approvers sign.")]
