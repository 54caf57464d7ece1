"""Which worker does what: its handlers on the bus, and what it looks at by itself from time to time."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from events.handler import Handler
from schemas.event import Event
from schemas.names import (
    ALERT_EMITTER,
    AUDIT_SEALER,
    DEP_ASSIGNER,
    MAILBOX_REENCRYPTOR,
    RECOVERY_HANDLER,
    SITE_REENCRYPTOR,
    TIK_CACHE_REFRESHER,
)
from twinlock.approvals import telling
from twinlock.approvals.settings import ApprovalSettings
from twinlock.approvals.statement import Action
from twinlock.content.reblob import BlobReencrypter
from twinlock.content.reencrypt import Reencrypter
from twinlock.content.sweeper import Sweeper
from twinlock.custody.audit.log import AuditLog
from twinlock.custody.callers import replays
from twinlock.custody.port import Custodian, Recovering
from twinlock.custody.remote.messages import LIFETIME_SECONDS
from twinlock.custody.revocation import register
from twinlock.purging.resuming import SWEEP
from twinlock.store.unit import Cause, Store, new_id
from workers import forgetting, overdue, wakeups
from workers.alert_emitter.hearing import HEARD, Hear
from workers.alert_emitter.look import look
from workers.alert_emitter.posting import Post, give_up_strangers
from workers.alert_emitter.webhooks import Webhook
from workers.dep_assigner.assignment import Assign
from workers.dep_assigner.creation import CreatePolicy
from workers.dep_assigner.expansion import ExpandStep
from workers.dep_assigner.refresh import Refresh
from workers.mailbox_reencryptor.move import Move
from workers.mailbox_reencryptor.step import ReencryptStep
from workers.observing import Observer, Unobserved
from workers.recovery_handler import taking_up
from workers.recovery_handler.carrying import AnyCarrying
from workers.recovery_handler.purge_means import PurgeMeans
from workers.recovery_handler.purge_request import RequestPurge
from workers.recovery_handler.recover import Recover
from workers.recovery_handler.request import RequestRecovery
from workers.recovery_handler.retiring import retire
from workers.recovery_handler.step import CarryOutStep
from workers.recovery_handler.sweep import SweepPurged
from workers.recovery_handler.taking_up import TakeUp
from workers.settings import WorkerSettings
from workers.site_reencryptor.move import MoveSite
from workers.site_reencryptor.step import SiteStep

Handlers = Sequence[Handler[Any, Any]]


@dataclass(frozen=True, slots=True)
class Periodic:
    """Name something to be done every so many seconds."""

    name: str
    seconds: float
    action: Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Workplace:
    """Hold what workers work with; only the recovery handler's has the means of `recovering` and `purging`.

    `audit` is there where the key for it is.
    """

    store: Store
    custodian: Custodian
    reencrypter: Reencrypter
    blob_reencrypter: BlobReencrypter
    sweeper: Sweeper
    settings: WorkerSettings
    recovering: Recovering | None = None
    approvals: ApprovalSettings = field(default_factory=ApprovalSettings)
    purging: PurgeMeans | None = None
    webhooks: Mapping[str, Webhook] = field(default_factory=dict)
    audit: AuditLog | None = None
    observer: Observer = field(default_factory=Unobserved)


@dataclass(frozen=True, slots=True)
class Duties:
    """Hold what one worker does."""

    handlers: Callable[[Workplace], Handlers]
    periodic: Callable[[Workplace], Sequence[Periodic]]
    takes: tuple[type[Event], ...]  # what its handlers handle: the bindings of its queue
    has_jobs: bool = True  # then it is woken through slots
    listens: bool = True  # to anything that comes through the broker


def _assigns(place: Workplace) -> Handlers:
    return (
        CreatePolicy(place.store, place.custodian, place.settings),
        Assign(place.store),
        Refresh(place.store, place.custodian),
        ExpandStep(place.store, place.custodian, place.settings, place.observer),
    )


def _assigner_upkeep(place: Workplace) -> Sequence[Periodic]:
    return (*_reconcilers(place, DEP_ASSIGNER), _forgets(place, "old lists", forgetting.forget_lists))


def _reencrypts(place: Workplace) -> Handlers:
    return (
        Move(place.store, place.custodian),
        ReencryptStep(place.store, place.custodian, place.reencrypter, place.settings, place.observer),
    )


def _reencryptor_upkeep(place: Workplace) -> Sequence[Periodic]:
    sweeping = Periodic("sweep", place.settings.sweep_seconds, lambda: place.sweeper.sweep(Cause(new_id())))
    return (*_reconcilers(place, MAILBOX_REENCRYPTOR), sweeping)


def _rolls_out(place: Workplace) -> Handlers:
    return (
        MoveSite(place.store, place.custodian),
        SiteStep(place.store, place.custodian, place.blob_reencrypter, place.settings, place.observer),
    )


def _rollout_upkeep(place: Workplace) -> Sequence[Periodic]:
    return _reconcilers(place, SITE_REENCRYPTOR)


def _reconcilers(place: Workplace, worker: str) -> Sequence[Periodic]:
    store, settings = place.store, place.settings
    return (
        Periodic(
            f"reconcile {worker}",
            settings.reconcile_seconds,
            lambda: wakeups.reconcile(store, worker, settings.lost_wake_seconds),
        ),
        Periodic(
            f"tell what is overdue for {worker}",
            settings.overdue_look_seconds,
            lambda: overdue.look(store, worker, settings),
        ),
        _forgets_receipts(place, worker),
    )


def _forgets(place: Workplace, what: str, forget: Callable[[Store, WorkerSettings], Awaitable[None]]) -> Periodic:
    return Periodic(f"forget {what}", place.settings.forget_seconds, lambda: forget(place.store, place.settings))


def _forgets_receipts(place: Workplace, worker: str) -> Periodic:
    return _forgets(place, f"old receipts of {worker}", partial(forgetting.forget_receipts, worker))


def _serves(_place: Workplace) -> Handlers:
    return ()  # what it takes, if anything, are calls and not events


def _refresher_upkeep(place: Workplace) -> Sequence[Periodic]:
    settings = place.settings
    return (
        Periodic("forget taken calls", settings.forget_seconds, lambda: replays.forget(place.store, LIFETIME_SECONDS)),
        _forgets(place, "old counts of vault operations", forgetting.forget_operations),
        *_telling(place),
        Periodic("forget custodians that are gone", register.GONE_SECONDS, lambda: register.forget(place.store)),
    )


def _telling(place: Workplace) -> Sequence[Periodic]:
    audit = place.audit
    if audit is None:
        return ()  # what is closed has to be audited
    return (Periodic("tell of approvals", place.settings.reconcile_seconds, lambda: telling.keep(place.store, audit)),)


def _no_upkeep(_place: Workplace) -> Sequence[Periodic]:
    return ()  # what it does takes a key that no other worker holds


def _carries_out(place: Workplace) -> Handlers:
    if place.recovering is None:
        return ()  # without a custodian of its own it has nothing to carry out with
    carrying = _carrying(place, place.recovering)
    requesting = place.purging and RequestPurge(place.store, place.recovering, place.purging.requesting)
    return (
        RequestRecovery(place.store, place.recovering, place.approvals),
        *((requesting,) if requesting else ()),
        TakeUp(carrying),
        CarryOutStep(place.store, carrying, place.settings, place.observer),
    )


def _recovery_upkeep(place: Workplace) -> Sequence[Periodic]:
    recovering, often = place.recovering, place.settings.reconcile_seconds
    if recovering is None:
        return ()
    carrying, grace = _carrying(place, recovering), place.settings.take_up_grace_seconds
    return (
        # Where nobody recovers or purges for a year, its home's mark is as new as any.
        Periodic("hold the database against the mark", often, recovering.refuse_restored),
        Periodic("take up what was approved", often, lambda: taking_up.look(place.store, carrying, grace)),
        Periodic("retire availability keys", place.settings.sweep_seconds, lambda: retire(place.store, recovering)),
        *_reconcilers(place, RECOVERY_HANDLER),
    )


def _carrying(place: Workplace, recovering: Recovering) -> Mapping[str, AnyCarrying]:
    recover: dict[str, AnyCarrying] = {Action.RECOVER: Recover(place.store, recovering)}
    if place.purging is None:
        return recover
    return recover | {
        Action.PURGE: place.purging.carrying(place.store, recovering, place.settings),
        SWEEP: SweepPurged(place.store, recovering, place.purging.content),
    }


def _hears(place: Workplace) -> Handlers:
    return [*(Hear(event) for event in HEARD), Post(place.webhooks)]


def _emitter_upkeep(place: Workplace) -> Sequence[Periodic]:
    settings = place.settings
    return (
        Periodic(
            "look at open alerts", settings.alert_look_seconds, lambda: look(place.store, settings.alert_grace_seconds)
        ),
        Periodic(
            "give up what no webhook is named for",
            settings.reconcile_seconds,
            lambda: give_up_strangers(place.store, place.webhooks),
        ),
        _forgets(place, "old alerts", forgetting.forget_alerts),
        _forgets_receipts(place, ALERT_EMITTER),
    )


ROSTER: Mapping[str, Duties] = {
    DEP_ASSIGNER: Duties(
        _assigns, _assigner_upkeep, (CreatePolicy.handles, Assign.handles, Refresh.handles, ExpandStep.handles)
    ),
    MAILBOX_REENCRYPTOR: Duties(_reencrypts, _reencryptor_upkeep, (Move.handles, ReencryptStep.handles)),
    SITE_REENCRYPTOR: Duties(_rolls_out, _rollout_upkeep, (MoveSite.handles, SiteStep.handles)),
    TIK_CACHE_REFRESHER: Duties(_serves, _refresher_upkeep, (), has_jobs=False),
    RECOVERY_HANDLER: Duties(
        _carries_out,
        _recovery_upkeep,
        (RequestRecovery.handles, RequestPurge.handles, TakeUp.handles, CarryOutStep.handles),
    ),
    ALERT_EMITTER: Duties(_hears, _emitter_upkeep, (*HEARD, Post.handles), has_jobs=False),
    AUDIT_SEALER: Duties(_serves, _no_upkeep, (), has_jobs=False, listens=False),
}


def handlers_of(place: Workplace, names: Sequence[str] = tuple(ROSTER)) -> Handlers:
    """Return the handlers of these workers."""
    return [handler for name in names for handler in ROSTER[name].handlers(place)]


def upkeep_of(place: Workplace, names: Sequence[str] = tuple(ROSTER)) -> Sequence[Periodic]:
    """Return what these workers look at by themselves."""
    return [periodic for name in names for periodic in ROSTER[name].periodic(place)]


def types_of(names: Sequence[str] = tuple(ROSTER)) -> Mapping[str, Sequence[str]]:
    """Return which types of event each of these workers takes, of those that take any."""
    return {name: [event.type for event in ROSTER[name].takes] for name in names if ROSTER[name].takes}


def routes_of(handlers: Handlers) -> Mapping[str, Sequence[str]]:
    """Return which consumers take which type of event."""
    routes: dict[str, list[str]] = {}
    for handler in handlers:
        routes.setdefault(handler.handles.type, []).append(handler.consumer)
    return routes
