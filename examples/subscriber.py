# /// script
# dependencies = ["cloudevents>=1.11,<2", "confluent-kafka>=2.10"]
# ///
"""Knows who is paired with whom, from `pairing-states.v1` alone: the last record of a key is true."""

import json
import os
from typing import Any

from cloudevents.kafka import KafkaMessage, from_binary
from confluent_kafka import Consumer, KafkaException


def main() -> None:
    pairs: dict[str, list[str]] = {}  # in memory: so nothing is committed, and each start reads from the beginning
    consumer = Consumer(
        {
            "bootstrap.servers": os.environ.get("VICEVERSA_KAFKA", "127.0.0.1:9092"),
            "group.id": "who-with-whom",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([os.environ.get("VICEVERSA_TOPIC_PREFIX", "mentoring.") + "pairing-states.v1"])
    while True:
        if (message := consumer.poll(1.0)) is None:
            continue
        if error := message.error():
            raise KafkaException(error)
        headers: dict[str, Any] = dict(message.headers() or [])
        record = KafkaMessage(headers, message.key(), message.value() or b"null")
        event = from_binary(record, data_unmarshaller=json.loads)
        if event["type"] != "mentoring.pairing.state.v1":
            continue  # a type that is not known is to be passed over
        pairing, state = event["subject"], event.get_data()
        pairs.pop(pairing, None)
        if state and state["state"] in ("formed", "chartered", "paused"):  # no state: a tombstone, it was erased
            pairs[pairing] = [person["member_id"] for person in state["participants"]]
        print(f"{len(pairs)} pairs now. {pairing}: {pairs.get(pairing, 'not together')}", flush=True)


if __name__ == "__main__":
    main()
