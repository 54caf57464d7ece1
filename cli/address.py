"""Where to listen: HOST:PORT, as people write it."""

from cli.failures import UsageFault

Address = tuple[str, int]
_MOST = 65535


def parse_address(text: str) -> Address:
    """Return host and port; an IPv6 address stands in brackets. Raise `UsageFault`."""
    host, colon, port = text.rpartition(":")
    name = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    if not colon or not name or not port.isascii() or not port.isdigit() or not 0 < int(port) <= _MOST:
        raise UsageFault(f"{text!a} is not HOST:PORT", hint="for example --health 127.0.0.1:8080")
    return name, int(port)
