"""How tokens are reached: which library drives each, where its PIN lies, and how long we wait."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from twinlock.vaults.administration import BadKeyUri
from twinlock.vaults.pkcs11.uris import check_token


@dataclass(frozen=True, slots=True)
class Pkcs11Token:
    """Hold one token's settings; the PIN is never among them, only the file that it lies in.

    `serial` and `slot` are checked where they are set, so that no other token of that label is taken. `environment` is
    all that the library finds in its environment.
    """

    module: Path | None = None
    pin_file: Path | None = None
    serial: str = ""
    slot: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def faults(self) -> list[str]:
        """Say what keeps these settings from reaching a token."""
        faults = []
        if self.module is None or not self.module.is_absolute():
            faults.append("needs module, the full path of the library that reaches it")
        if self.pin_file is None:
            faults.append("needs pin_file, where its user PIN lies")
        return faults


@dataclass(frozen=True, slots=True)
class Pkcs11Settings:
    """Hold the settings of all tokens, each under its label; times are in seconds.

    `deadline` bounds one call with all that belongs to it, and is best kept below the custodian's own; `start_deadline`
    bounds the start of a library's process, until it has the library in hand.
    """

    deadline: float = 3.0
    start_deadline: float = 20.0
    tokens: Mapping[str, Pkcs11Token] = field(default_factory=dict)

    @property
    def faults(self) -> list[str]:
        """Say what keeps these settings from reaching a token."""
        faults = [f"tokens: {name!a} {fault}" for name, token in self.tokens.items() for fault in token.faults]
        for name in self.tokens:
            try:
                check_token(name)
            except BadKeyUri as fault:
                faults.append(f"tokens: {fault.detail}")
        return faults
