"""The printed access rules are exactly what the services, the commands and other systems use."""

from importlib import import_module
from typing import Any

import pytest
import yaml

from contracts.access_rules import SUBSCRIPTIONS, access_rules
from contracts.catalogue import FORMER_TOPICS, SERVICES, TOPICS
from services.matcher.partner_replica import replica_handlers
from tests.cli.conftest import Run, parse_json


def names(user: str, operation: str) -> set[str]:
    return {rule.name for rule in access_rules("m.", [user]) if (rule.resource, rule.operation) == ("topic", operation)}


class TestAccessRules:
    @pytest.mark.parametrize("service", SERVICES)
    def test_subscriptions_are_those_of_the_handlers(self, service: str) -> None:
        registry: Any = import_module(f"services.{service}.handlers").registry
        handled = {*registry.topics(), *(replica_handlers.topics() if service == "matcher" else ())}
        assert set(SUBSCRIPTIONS[service]) == handled
        assert set(registry.former_topics()) <= {topic for topic in FORMER_TOPICS if service in topic.writers}

    def test_only_its_writer_writes_a_topic(self) -> None:
        for topic in TOPICS:
            writers = {service for service in SERVICES if topic.full_name("m.") in names(service, "WRITE")}
            assert writers == set(topic.writers)
        for topic in FORMER_TOPICS:
            assert not any(topic.full_name("m.") in names(service, "WRITE") for service in SERVICES)

    def test_restricted_topics_are_read_by_their_readers_and_owner(self) -> None:
        for topic in TOPICS:
            if topic.restricted:
                readers = {service for service in SERVICES if topic.full_name("m.") in names(service, "READ")}
                guarding = set(topic.writers) if topic.cleanup == "compact" else set()
                assert readers == set(topic.readers) | guarding

    def test_only_provisioning_creates_topics(self) -> None:
        assert {rule.user for rule in access_rules("m.") if rule.operation == "CREATE"} == {"provision"}

    def test_subscriber_reads_open_topics_and_writes_nothing(self) -> None:
        assert names("subscriber", "READ") == {topic.full_name("m.") for topic in TOPICS if not topic.restricted}
        assert names("subscriber", "WRITE") == set()


class TestAclsCommand:
    def test_commands_name_principal_operation_and_topic(self, run: Run) -> None:
        lines = run("acls", "matcher", "--principal", "matcher=User:CN=matcher").stdout.splitlines()
        rule = "--allow-principal User:CN=matcher --operation Write --topic mentoring.pairings.v1"
        assert any(rule in line for line in lines)
        assert not any("--operation Write --topic mentoring.profiles.v1" in line for line in lines)

    def test_strimzi_users_are_yaml_with_the_same_rules(self, run: Run) -> None:
        users = [item for item in yaml.safe_load_all(run("acls", "--format", "strimzi").stdout) if item]
        rules = parse_json(run("acls", "--json"))
        assert sum(len(user["spec"]["authorization"]["acls"]) for user in users) == len(rules)
        assert {user["kind"] for user in users} == {"KafkaUser"}

    def test_unknown_user_is_refused(self, run: Run) -> None:
        assert run("acls", "nobody").exit_code == 2
        assert run("acls", "--principal", "nobody=User:x").exit_code == 2
