"""Contender: Celery, acknowledging late, with confirms, on a quorum queue, one commit a task.

Its worker consumes only when the referee adds the queue. It tells no event: that is left out in its favour.
"""

import os

import psycopg
from celery import Celery
from celery.signals import worker_process_init
from kombu import Queue

from bench._contest import QUEUE, row_of

_taken = Queue(QUEUE, routing_key=QUEUE, queue_arguments={"x-queue-type": "quorum"})
app = Celery("bench", broker=os.environ.get("BENCH_BROKER", "amqp://"))
app.conf.update(
    task_acks_late=True,
    task_ignore_result=True,
    task_default_queue="idle",
    task_queues=[_taken, Queue("idle", routing_key="idle", queue_arguments={"x-queue-type": "quorum"})],
    worker_prefetch_multiplier=16,
    worker_detect_quorum_queues=True,
    broker_transport_options={"confirm_publish": True},
    broker_connection_retry_on_startup=True,
)
_connections: list["psycopg.Connection[tuple[object, ...]]"] = []


@worker_process_init.connect  # type: ignore[untyped-decorator]  # the library has no types
def connect(**_: object) -> None:
    """Give each process of the pool a connection of its own."""
    _connections.append(psycopg.connect(os.environ["BENCH_DATABASE"]))


@app.task(name="bench.handle")  # type: ignore[untyped-decorator]  # the library has no types
def handle(event_id: str) -> None:
    """Handle one event."""
    connection = _connections[0]
    connection.execute("INSERT INTO bench_inbox VALUES (%s, now())", (event_id,))
    connection.execute("UPDATE bench_rows SET value = value + 1 WHERE id = %s", (row_of(event_id),))
    connection.commit()


def fill(broker: str, count: int) -> None:
    """Put the tasks into the queue."""
    with _client(broker) as client, client.connection_for_write() as connection, connection.channel() as channel:
        _taken(channel).declare()
        with client.amqp.Producer(channel) as producer:
            for number in range(count):
                client.send_task("bench.handle", (f"e-{number}",), producer=producer, queue=_taken)


def wait_until_there(broker: str) -> None:
    """Return when a worker answers."""
    with _client(broker) as client:
        while not client.control.ping(timeout=0.3, limit=1):
            pass


def begin(broker: str) -> None:
    """Let the worker take from the queue."""
    with _client(broker) as client:
        client.control.add_consumer(QUEUE, reply=False)


def _client(broker: str) -> Celery:
    client = Celery("referee", broker=broker, set_as_current=False)
    client.conf.broker_transport_options = {"confirm_publish": True}
    return client
