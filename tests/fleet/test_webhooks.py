"""Webhooks in a fleet: whichever replica of the alert emitter has a delivery, its subscriber gets it."""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from schemas.names import ALERT_EMITTER
from tests.fleet.installation import Fleet

DELIVERIES = "SELECT consumer, attempts FROM deliveries WHERE consumer LIKE 'webhook:%' AND attempts > 0"


@dataclass
class Subscriber:
    """Hold what came, and the status to answer with."""

    status: int = 204
    posted: list[dict[str, Any]] = field(default_factory=list)
    port: int = 0

    def kinds(self) -> set[tuple[str, str]]:
        """Return which news of which kinds came."""
        return {(each["data"]["kind"], each["data"]["news"]) for each in self.posted}


@contextmanager
def subscribing() -> Iterator[Subscriber]:
    """Run a subscriber in a thread."""
    found = Subscriber()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(found.status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    found.port = server.server_port
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_posted(fleet: Fleet, boxes: dict[str, Counter[bytes]]) -> None:
    """What a subscriber did not take is posted by another replica once it does, though the first one was killed."""
    fleet.leave(ALERT_EMITTER)
    (fleet.secrets(ALERT_EMITTER) / "pager").write_text("a secret of the fleet's webhook")
    with subscribing() as subscriber:
        hook = {"url": f"http://127.0.0.1:{subscriber.port}/", "secret_file": "pager", "allow_http": True}
        settings = {"TWINLOCK_WEBHOOKS": json.dumps({"pager": {**hook, "tenants": ["acme"]}})}
        fleet.start(ALERT_EMITTER, **settings)
        subscriber.status = 503
        fleet.ask("policy", "revoke", "acme/main")
        fleet.until(lambda: bool(fleet.rows(DELIVERIES)))
        fleet.leave(ALERT_EMITTER)
        subscriber.status = 204
        subscriber.posted.clear()
        fleet.ask("policy", "restore", "acme/main")
        fleet.value("UPDATE deliveries SET not_before = now()")
        fleet.start(ALERT_EMITTER, **settings)
        fleet.until(lambda: {("policy-revoked", "opened"), ("policy-revoked", "resolved")} <= subscriber.kinds())
        fleet.until(lambda: not fleet.value("SELECT count(*) FROM deliveries"))
        fleet.leave(ALERT_EMITTER)
    fleet.staff()
    fleet.assert_sound(boxes)
