"""`acls`: the access rules that a Kafka with an authorizer needs."""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from itertools import groupby
from typing import Annotated, Literal

import typer

from cli.console import print_json, print_text
from cli.installation import DEFAULT_DATA, DataOption, JsonOption, load_addresses
from contracts.access_rules import USERS, AccessRule, access_rules

Format = Literal["kafka-acls", "strimzi"]


def register(app: typer.Typer) -> None:
    app.command()(acls)


def acls(
    users: Annotated[
        list[str] | None, typer.Argument(metavar="[USER]...", help=f"Some of {', '.join(USERS)}. Default: all.")
    ] = None,
    format_: Annotated[
        Format, typer.Option("--format", help="kafka-acls: commands for a shell. strimzi: KafkaUser resources.")
    ] = "kafka-acls",
    principal: Annotated[
        list[str] | None,
        typer.Option(help="The principal of a user, as USER=User:NAME. Default: User:viceversa-USER. May be repeated."),
    ] = None,
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """Print exactly the access rules that each user of Kafka needs; nothing is changed.

    Each service has a user of its own. `commands` is for `viceversa pairing` and `viceversa dead-letters`, `provision`
    for `viceversa provision`, and `subscriber` for another system, which reads the open topics alone. Its consumer
    groups begin with the prefix and `subscriber`. Give each service its user in VICEVERSA_KAFKA_USERNAME, and set
    VICEVERSA_CREATE_TOPICS=no, so that only `viceversa provision` creates topics.

    The rules say who may write what. The services check it again, by the `ce_source` of each record.

    [bold]Examples[/]

      viceversa acls | BOOTSTRAP=kafka:9092 sh

      viceversa acls matcher --principal 'matcher=User:CN=matcher,O=Halden'

      viceversa acls --format strimzi > users.yaml
    """
    principals = _parse_principals(principal or [])
    try:
        rules = access_rules(load_addresses(data).prefix, users or USERS)
    except LookupError as error:
        raise typer.BadParameter(str(error)) from error
    if json:
        print_json([{**asdict(rule), "principal": _principal_of(rule.user, principals)} for rule in rules])
    elif format_ == "strimzi":
        print_text("".join(render_strimzi(rules, principals)).removesuffix("\n"))
    else:
        print_text("\n".join(render_commands(rules, principals)))


def render_commands(rules: Iterable[AccessRule], principals: Mapping[str, str]) -> Iterable[str]:
    """One `kafka-acls` command for each rule. The shell variables BOOTSTRAP and ADMIN name the broker and its login."""
    for user, group in groupby(rules, lambda rule: rule.user):
        yield f"# {user}"
        for rule in group:
            pattern = " --resource-pattern-type prefixed" if rule.is_prefix else ""
            operation = rule.operation.title().replace("_C", "C")
            yield (
                f'kafka-acls.sh --bootstrap-server "$BOOTSTRAP" ${{ADMIN:+--command-config "$ADMIN"}} --add'
                f" --allow-principal {shlex.quote(_principal_of(user, principals))} --operation {operation}"
                f" --{rule.resource} {shlex.quote(rule.name)}{pattern}"
            )


def render_strimzi(rules: Iterable[AccessRule], principals: Mapping[str, str]) -> Iterable[str]:
    """One `KafkaUser` for each user. Its name is the principal's, without `User:`."""
    for user, group in groupby(rules, lambda rule: rule.user):
        name = _principal_of(user, principals).removeprefix("User:")
        yield (
            "---\napiVersion: kafka.strimzi.io/v1beta2\nkind: KafkaUser\nmetadata:\n"
            f"  name: {name}\n  labels:\n    strimzi.io/cluster: kafka\n"
            "spec:\n  authentication:\n    type: scram-sha-512\n  authorization:\n    type: simple\n    acls:\n"
        )
        for rule in group:
            operation = rule.operation.title().replace("_C", "C")
            kind = "prefix" if rule.is_prefix else "literal"
            yield (
                f"      - resource: {{type: {rule.resource}, name: {rule.name}, patternType: {kind}}}\n"
                f"        operations: [{operation}]\n"
            )


def _principal_of(user: str, principals: Mapping[str, str]) -> str:
    return principals.get(user, f"User:viceversa-{user}")


def _parse_principals(texts: Iterable[str]) -> dict[str, str]:
    principals = {}
    for text in texts:
        user, _, name = text.partition("=")
        if user not in USERS or not name.startswith("User:") or not name.removeprefix("User:"):
            raise typer.BadParameter(f"--principal is USER=User:NAME, with one of {', '.join(USERS)}")
        principals[user] = name
    return principals
