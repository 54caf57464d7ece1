"""Build the AsyncAPI 3 document: one channel a type of event, with who sends and who receives on it.

Every AsyncAPI tool must understand JSON Schema draft-07, and most refuse any other dialect: so the payloads stand here
in draft-07, while the JSON Schemas themselves keep the dialect that pydantic writes.
"""

import inspect
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from schemas.draft07 import draft_07
from schemas.envelope import CONTENT_TYPE, Envelope
from schemas.event import Event
from schemas.facts import AlertChanged, RequestAnswered
from schemas.identifiers import Audience, RequestOutcome, Severity
from schemas.registry import EVENTS, REQUESTS
from schemas.routing import address, exchange, routing_key

# Of the contract, not of the program: a new type or field raises the minor part, a type that goes the major part.
CONTRACT_VERSION = "1.0.0"
_FORMAT = "application/schema+json;version=draft-07"
_BINDING = "0.3.0"
_PARAMETERS: dict[type[Event], dict[str, Any]] = {
    RequestAnswered: {
        "publisher": {"description": "The broker's login of whoever published the request, as one word."},
        "outcome": {"description": "How the request ended.", "enum": [outcome.value for outcome in RequestOutcome]},
    },
    AlertChanged: {
        "audience": {"description": "Who is told.", "enum": [audience.value for audience in Audience]},
        "tenant": {"description": "Whom it concerns, as one word."},
        "severity": {"description": "How bad it is.", "enum": [severity.value for severity in Severity]},
        "kind": {"description": "What it is about."},
    },
}
_DESCRIPTION = (
    "What registered publishers may ask of a Twinlock fleet, and the facts that its workers publish. "
    "The tag of an operation names the party whose view it takes."
)


def asyncapi() -> dict[str, Any]:
    """Return the whole document."""
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Twinlock", "version": CONTRACT_VERSION, "description": _DESCRIPTION},
        "defaultContentType": _content_type(),
        "channels": {routing_key(name): _channel(event) for name, event in EVENTS.items()},
        "operations": dict(pair for event in EVENTS.values() for pair in _operations(event)),
        "components": {
            "messages": {routing_key(name): _message(event) for name, event in EVENTS.items()},
            "schemas": _schemas(),
        },
    }


def _content_type() -> str:
    return CONTENT_TYPE.partition(";")[0]


def _channel(event: type[Event]) -> dict[str, Any]:
    key = routing_key(event.type)
    target = {"name": exchange(event), "type": "topic", "durable": True, "autoDelete": False}
    parameters = {"parameters": _PARAMETERS[event]} if event in _PARAMETERS else {}
    return {
        "address": address(event),
        **parameters,
        "title": event.__name__,
        "description": _purpose(event),
        "messages": {key: {"$ref": f"#/components/messages/{key}"}},
        "bindings": {"amqp": {"is": "routingKey", "exchange": target, "bindingVersion": _BINDING}},
    }


def _operations(event: type[Event]) -> list[tuple[str, dict[str, Any]]]:
    key = routing_key(event.type)
    sender = "publisher" if event in REQUESTS else "worker"
    sending = {"deliveryMode": 2, "mandatory": True, "timestamp": True, "bindingVersion": _BINDING}
    receiving = {"ack": True, "bindingVersion": _BINDING}
    return [
        (f"{sender}.send.{key}", _operation("send", sender, key, sending)),
        (f"worker.receive.{key}", _operation("receive", "worker", key, receiving)),
    ]


def _operation(action: str, party: str, key: str, binding: dict[str, Any]) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{key}"},
        "messages": [{"$ref": f"#/channels/{key}/messages/{key}"}],
        "tags": [{"name": party}],
        "bindings": {"amqp": binding},
    }


def _message(event: type[Event]) -> dict[str, Any]:
    data = {"type": {"const": event.type}, "data": {"$ref": _place(event.__name__)}}
    payload = {"allOf": [{"$ref": _place(Envelope.__name__)}, {"type": "object", "properties": data}]}
    return {
        "name": event.type,
        "title": event.__name__,
        "summary": _purpose(event),
        "contentType": _content_type(),
        "correlationId": {"location": "$message.payload#/correlationid"},
        "payload": {"schemaFormat": _FORMAT, "schema": payload},
        "bindings": {"amqp": {"messageType": event.type, "bindingVersion": _BINDING}},
    }


def _schemas() -> dict[str, Any]:
    models: list[type[BaseModel]] = [Envelope, *EVENTS.values()]
    _, found = models_json_schema([(model, "validation") for model in models], ref_template=_place("{model}"))
    return {name: {"schemaFormat": _FORMAT, "schema": draft_07(schema)} for name, schema in found["$defs"].items()}


def _place(name: str) -> str:
    return f"#/components/schemas/{name}/schema"


def _purpose(event: type[Event]) -> str:
    return inspect.cleandoc(event.__doc__ or "").partition("\n")[0]
