"""The AsyncAPI 3.0 document of all topics: who sends what where, how it is keyed, kept and encoded."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from schemas.json_schema import message_names
from schemas.topics import Topic

DOCUMENT_VERSION = "1.0.0"
"""Version of the set of topics; a breaking change to any of them is a new topic beside the old one."""

DEFAULT_PARTITIONS = 8
"""Partitions of the topics that lanes read and write, unless the setting `partitions` says otherwise."""

Node = dict[str, Any]

_BINDING_VERSION = "0.5.0"
_SCHEMA_FORMAT = "application/schema+json;version=draft-2020-12"

PARTIES = {
    "exporters": "DPI probes, gateways and flow exporters that publish records in our own format.",
    "ingest": "Adapters that turn the records of other exporters into flow records.",
    "policy": "The policy service: classifies, selects the rule, charges.",
    "rating": "The rating service: catalogue, orders, ledger, partner APIs.",
    "gateways": "Gateways that install, modify and remove PCC rules.",
    "mediation": "The operator's mediation: decisions are charging data records.",
    "analytics": "Whoever studies traffic.",
    "notifier": "Whatever sends messages to subscribers.",
    "operations": "People and tools that look after refused records.",
}
"""Who sends and receives; policy, rating and ingest are ours, the others are the operator's."""


def asyncapi_document(topics: Sequence[Topic], examples: Mapping[str, Mapping[str, Sequence[object]]]) -> Node:
    """The document over `topics`; `examples` holds payloads per topic name and message name.

    Payload schemas are references to the JSON Schema files beside the document, so nothing is said twice.
    """
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Smartpipe topics",
            "version": DOCUMENT_VERSION,
            "description": "Flow records in; decisions, enforcement, rated usage and notifications out.",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
            "tags": [{"name": name, "description": about} for name, about in PARTIES.items()],
        },
        "defaultContentType": "application/json",
        "servers": {
            "development": {
                "host": "127.0.0.1:9092",
                "protocol": "kafka",
                "description": "The default of the setting `kafka_bootstrap`.",
            }
        },
        "channels": {topic.name: _channel(topic) for topic in topics},
        "operations": dict(_operations(topics)),
        "components": {
            "messages": {
                name: _message(topic, name, examples[topic.name].get(name, ()))
                for topic in topics
                for name in message_names(topic)
            }
        },
    }


def _channel(topic: Topic) -> Node:
    return {
        "address": topic.name,
        "title": topic.about,
        "description": f"Contract version {topic.version}; record key: {topic.key}.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in message_names(topic)},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": 1 if topic.single_partition else DEFAULT_PARTITIONS,
                "topicConfiguration": _topic_configuration(topic.broker_settings()),
                "bindingVersion": _BINDING_VERSION,
            }
        },
    }


def _topic_configuration(settings: Mapping[str, str]) -> Node:
    """Broker settings in the types that the binding wants: the clean-up policy a list, the rest numbers."""
    policy = settings.get("cleanup.policy", "delete").split(",")
    return {"cleanup.policy": policy} | {
        name: int(value) for name, value in settings.items() if name != "cleanup.policy"
    }


def _operations(topics: Iterable[Topic]) -> Iterable[tuple[str, Node]]:
    for topic in topics:
        yield from (_operation(topic, party, "send") for party in topic.producers)
        yield from (_operation(topic, party, "receive") for party in topic.consumers)


def _operation(topic: Topic, party: str, action: str) -> tuple[str, Node]:
    return f"{party}-{action}-{topic.name}", {
        "action": action,
        "channel": {"$ref": f"#/channels/{topic.name}"},
        "summary": f"{party} {action}s: {topic.about}",
        "tags": [{"name": party}],
        "messages": [{"$ref": f"#/channels/{topic.name}/messages/{name}"} for name in message_names(topic)],
    }


def _message(topic: Topic, name: str, payloads: Sequence[object]) -> Node:
    as_json = "" if topic.content_type == "application/json" else "Examples show the JSON form of the MessagePack."
    return {
        "name": name,
        "title": name,
        "summary": topic.about,
        **({"description": as_json} if as_json else {}),
        "contentType": topic.content_type,
        "payload": {
            "schemaFormat": _SCHEMA_FORMAT,
            "schema": {"$ref": f"./json/{topic.name}.schema.json#/$defs/{name}"},
        },
        "bindings": {
            "kafka": {"key": {"type": "string", "description": topic.key}, "bindingVersion": _BINDING_VERSION}
        },
        "examples": [{"name": f"{name}-{number}", "payload": payload} for number, payload in enumerate(payloads, 1)],
    }
