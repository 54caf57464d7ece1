"""Senders for the webhooks that the settings name."""

from cli.settings import Settings
from twinlock.store.unit import Store
from workers.alert_emitter.sending import Sender, senders
from workers.roster import Periodic


def open_senders(settings: Settings, store: Store) -> list[Sender]:
    """Return a sender for each webhook."""
    if not settings.webhooks:
        return []
    from workers.alert_emitter.http import HttpPoster  # the library takes its time to load

    return senders(store, settings.webhooks, HttpPoster(settings.secrets_folder))


def sending(found: list[Sender], settings: Settings) -> list[Periodic]:
    """Return what sends, each subscriber's apart."""
    seconds = settings.workers.reconcile_seconds
    return [Periodic(f"send to webhook {each.name}", seconds, each.pass_once) for each in found]
