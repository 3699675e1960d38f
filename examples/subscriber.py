# /// script
# dependencies = ["cloudevents>=1.11,<2", "confluent-kafka>=2.10"]
# ///
"""Keeps the current pairs from `pairing-states.v1` alone: the last record of each key is valid."""

import json
import os
from collections.abc import Mapping
from typing import Any

from cloudevents.kafka import KafkaMessage, from_binary
from confluent_kafka import Consumer, KafkaException, Message

PREFIX = os.environ.get("VICEVERSA_TOPIC_PREFIX", "mentoring.")
CURRENT_STATES = ("formed", "chartered", "paused")


def apply(message: Message, pairs: dict[str, list[str]]) -> None:
    if error := message.error():
        raise KafkaException(error)
    headers: dict[str, Any] = dict(message.headers() or [])
    record = KafkaMessage(headers, message.key(), message.value() or b"null")
    event = from_binary(record, data_unmarshaller=json.loads)
    if event["type"] != "mentoring.pairing.state.v1":
        return  # unknown types must be ignored
    pairing, state = event["subject"], event.get_data()
    pairs.pop(pairing, None)
    if state and state["state"] in CURRENT_STATES:  # no state: a tombstone of an erased pairing
        pairs[pairing] = [person["member_id"] for person in state["participants"]]
    print(f"{len(pairs)} pairs now. {pairing}: {pairs.get(pairing, 'not together')}", flush=True)


def security(environment: Mapping[str, str]) -> dict[str, str]:
    """The settings of the services, under the names of this client."""
    names = {
        "VICEVERSA_KAFKA_PROTOCOL": "security.protocol",
        "VICEVERSA_KAFKA_MECHANISM": "sasl.mechanism",
        "VICEVERSA_KAFKA_USERNAME": "sasl.username",
        "VICEVERSA_KAFKA_PASSWORD": "sasl.password",
        "VICEVERSA_KAFKA_CA_FILE": "ssl.ca.location",
    }
    return {name: environment[variable] for variable, name in names.items() if variable in environment}


def main() -> None:
    consumer = Consumer(
        {
            "bootstrap.servers": os.environ.get("VICEVERSA_KAFKA", "127.0.0.1:9092"),
            **security(os.environ),
            "group.id": PREFIX + "who-with-whom",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,  # the pairs are in memory, so each start reads from the beginning
        }
    )
    consumer.subscribe([PREFIX + "pairing-states.v1"])
    pairs: dict[str, list[str]] = {}
    try:
        while True:
            message = consumer.poll(1.0)
            if message is not None:  # `if message` would be false for a tombstone
                apply(message, pairs)
    except KeyboardInterrupt:
        print("Stopped.")
    finally:
        consumer.close()


if __name__ == "__main__":
    main()
