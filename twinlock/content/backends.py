"""Where objects lie: a folder, or a bucket of a cloud, by one URL (library: obstore).

    file:///PATH    s3://BUCKET/PREFIX?region=...    az://CONTAINER/PREFIX?account_name=...    gs://BUCKET/PREFIX

What stands behind the `?` are the library's settings of that cloud, credentials too; without any, they come from where
the cloud's own tools look for them (environment, instance, workload identity). `allow_http=true` is for development.
"""

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from obstore.exceptions import BaseError, UnknownConfigurationKeyError
from obstore.store import AzureStore, GCSStore, LocalStore, ObjectStore, S3Store

from twinlock.errors import TwinlockError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

_USE = "use file:///PATH, s3://BUCKET/PREFIX, az://CONTAINER/PREFIX or gs://BUCKET/PREFIX"
_CLOUDS: dict[str, Any] = {"s3": S3Store, "az": AzureStore, "gs": GCSStore}
# A stalled connection is found by its silence: how long a whole transfer takes is the object's size.
_WAITS: "ClientConfig" = {
    "connect_timeout": timedelta(seconds=5),
    "read_timeout": timedelta(seconds=20),
    "timeout": timedelta(hours=1),
}
_TRIES: "RetryConfig" = {"max_retries": 3, "retry_timeout": timedelta(seconds=30)}


class UnsupportedObjects(TwinlockError):
    """Refuse the URL of an object store; the message never holds a value of it."""


def folder_of(url: str) -> Path | None:
    """Return the folder that a URL names, or none if it names something else."""
    parts = urlsplit(url)
    plain = parts.scheme == "file" and not parts.netloc and not parts.query and parts.path.startswith("/")
    return Path(unquote(parts.path)) if plain else None


def open_backend(url: str) -> ObjectStore:
    """Open an object store, or make its folder; a cloud is asked nothing yet.

    Raise `UnsupportedObjects` for a URL that can't be one.
    """
    folder = folder_of(url)
    if folder is None:
        return open_cloud(url)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # the library would not say what is wrong
    return LocalStore(folder)


def open_cloud(url: str) -> ObjectStore:
    """Open a bucket, as `open_backend` does."""
    parts = urlsplit(url)
    if parts.scheme not in _CLOUDS or not parts.hostname or parts.username:
        raise UnsupportedObjects("is not an object store", hint=_USE)
    config = dict(parse_qsl(parts.query, keep_blank_values=True))
    http = config.pop("allow_http", "false")
    if http not in ("true", "false"):
        raise UnsupportedObjects("has an allow_http that is neither true nor false", hint=_USE)
    try:
        opened: ObjectStore = _CLOUDS[parts.scheme](
            parts.netloc,
            prefix=unquote(parts.path).strip("/") or None,
            config=config,
            client_options=_WAITS | {"allow_http": http == "true"},
            retry_config=_TRIES,
        )
    except BaseError as refused:
        raise UnsupportedObjects(_refusal(refused, config), hint="see obstore's settings of that cloud") from None
    return opened


def _refusal(refused: BaseError, config: dict[str, str]) -> str:
    # The library quotes values, which may be secrets: of its words only the name that it does not know is told.
    if isinstance(refused, UnknownConfigurationKeyError):
        return "has unknown settings: " + ", ".join(name for name in config if f"'{name}'" in str(refused))
    return "lacks a setting, or has one that can't be read, among " + (", ".join(config) or "none at all")
