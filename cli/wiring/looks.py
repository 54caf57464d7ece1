"""What each worker's page of metrics looks up: what is its own, so that a sum over all pages counts nothing twice."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from schemas.names import ALERT_EMITTER
from twinlock.custody.custodian import LocalCustodian
from twinlock.custody.port import Custodian
from twinlock.store.unit import Store
from workers.metrics import looks
from workers.metrics.instruments import Metrics
from workers.metrics.page import Look
from workers.roster import ROSTER

if TYPE_CHECKING:
    from events.amqp.transport import AmqpTransport


def looks_of(
    worker: str, metrics: Metrics, store: Store, transport: "AmqpTransport", custodian: Custodian
) -> Mapping[str, Look]:
    """Return what one worker of a fleet looks up."""
    found = {"outbox": looks.at_outbox(metrics, store)}
    if ROSTER[worker].has_jobs:
        found["jobs"] = looks.at_jobs(metrics, store, worker)
    if ROSTER[worker].takes:
        found["queue"] = looks.at_queue(metrics, worker, partial(transport.waiting, worker))
    if worker == ALERT_EMITTER:
        found["alerts"] = looks.at_alerts(metrics, store)
        found["dead letters"] = looks.at_dead_letters(metrics, store)
    if isinstance(custodian, LocalCustodian):
        found["cache"] = looks.at_cache(metrics, store, custodian)
    return found


def looks_of_home(metrics: Metrics, store: Store, custodian: Custodian) -> Mapping[str, Look]:
    """Return what the one process of an embedded home looks up."""
    found = {
        "outbox": looks.at_outbox(metrics, store),
        "alerts": looks.at_alerts(metrics, store),
        "dead letters": looks.at_dead_letters(metrics, store),
    }
    workers = [name for name, duties in ROSTER.items() if duties.has_jobs]
    found["jobs"] = looks.at_jobs(metrics, store, *workers)
    if isinstance(custodian, LocalCustodian):
        found["cache"] = looks.at_cache(metrics, store, custodian)
    return found
