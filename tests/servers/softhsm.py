"""Private SoftHSM tokens: two of them in a folder of their own, and what their owner does to them.

Methods block, for some milliseconds. The library is begun anew for each act: it takes no notice of what others do to a
token's folder.
"""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pkcs11
from pkcs11 import Attribute, KeyType, MechanismFlag, ObjectClass

from twinlock.vaults.pkcs11.settings import Pkcs11Settings, Pkcs11Token

TOKENS = ("first", "second")
PIN = "258471"

_MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/softhsm/libsofthsm2.so")
_CONF = "directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\n"
_USES = (Attribute.ENCRYPT, Attribute.DECRYPT)


class SoftHsm:
    """Hold two tokens, each in a folder that can be taken away and put back."""

    def __init__(self, folder: Path) -> None:
        self.module = next(path for path in map(Path, _MODULES) if path.exists())
        self._folder = folder
        self._conf = folder / "softhsm2.conf"
        self._tokens = folder / "tokens"
        self._places: dict[str, Path] = {}

    def start(self) -> None:
        """Make the tokens."""
        self._tokens.mkdir()
        self._conf.write_text(_CONF.format(tokens=self._tokens))
        os.environ.update(self.environment)  # the library reads it in this process, too
        for name in TOKENS:
            before = set(self._tokens.iterdir())
            words = ("--init-token", "--free", "--label", name, "--pin", PIN, "--so-pin", "86420")
            subprocess.run(["softhsm2-util", *words], check=True, capture_output=True, env=dict(os.environ))
            (self._places[name],) = set(self._tokens.iterdir()) - before

    @property
    def environment(self) -> dict[str, str]:
        """Return what leads the library to these tokens."""
        return {"SOFTHSM2_CONF": str(self._conf)}

    def settings(self, pin_file: Path, deadline: float = 60.0, **token: Any) -> Pkcs11Settings:
        """Return the settings that reach both tokens, with time enough for a busy machine."""
        pin_file.write_text(f"{PIN}\n")
        own = Pkcs11Token(module=self.module, pin_file=pin_file, environment=self.environment, **token)
        return Pkcs11Settings(deadline=deadline, start_deadline=120.0, tokens=dict.fromkeys(TOKENS, own))

    def remove(self, name: str) -> None:
        """Take a token out of its slot."""
        self._places[name].rename(self._away(name))

    def put_back(self, name: str) -> None:
        """Put a token back."""
        self._away(name).rename(self._places[name])

    def is_removed(self, name: str) -> bool:
        """Say whether a token is taken out."""
        return self._away(name).exists()

    @contextmanager
    def opened(self, name: str) -> Iterator[Any]:
        """Log in to a token."""
        library = pkcs11.lib(str(self.module))
        library.reinitialize()
        session = library.get_token(token_label=name).open(rw=True, user_pin=PIN)
        try:
            yield session
        finally:
            session.close()

    def make(self, name: str, label: str, id_: bytes, **template: Any) -> None:
        """Make a key."""
        more = {getattr(Attribute, attribute): value for attribute, value in template.items()}
        uses = MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT
        with self.opened(name) as session:
            session.generate_key(KeyType.AES, 256, id=id_, label=label, store=True, capabilities=uses, template=more)

    def ids(self, name: str, label: str) -> Sequence[bytes]:
        """Return the CKA_ID of every key with a label."""
        with self.opened(name) as session:
            return sorted(key[Attribute.ID] for key in _keys(session, label))

    def switch(self, name: str, label: str, on: bool, uses: Sequence[Attribute] = _USES) -> None:
        """Let the keys with a label be used, or not."""
        with self.opened(name) as session:
            for key in _keys(session, label):
                for use in uses:
                    key[use] = on

    def is_on(self, name: str, label: str) -> bool:
        """Say whether a key with a label may be used."""
        with self.opened(name) as session:
            return any(key[use] for key in _keys(session, label) for use in _USES)

    def destroy(self, name: str, label: str, id_: bytes | None = None) -> None:
        """Destroy the keys with a label, or one of them."""
        with self.opened(name) as session:
            for key in _keys(session, label):
                if id_ in (None, key[Attribute.ID]):
                    key.destroy()

    def change(self, name: str, label: str, attribute: Attribute, value: Any) -> None:
        """Change an attribute of the keys with a label."""
        with self.opened(name) as session:
            for key in _keys(session, label):
                key[attribute] = value

    def _away(self, name: str) -> Path:
        return self._folder / f"away-{name}"


def _keys(session: Any, label: str) -> list[Any]:
    return list(session.get_objects({Attribute.LABEL: label, Attribute.CLASS: ObjectClass.SECRET_KEY}))
