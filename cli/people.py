"""`import` and `token`: people come in, and act as themselves."""

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress, TaskID

from cli import connections
from cli.api import ServiceClient
from cli.console import FAILED, Failure, print_json, print_line, print_note, print_table, progress_bar
from cli.installation import DEFAULT_DATA, DataOption, JsonOption, load_addresses

_POLL_S = 0.2
_CHUNK_BYTES = 256 * 1024
_MAX_ERRORS_SHOWN = 20


def register(app: typer.Typer) -> None:
    app.command("import")(import_)
    app.command()(token)


def import_(
    file: Annotated[Path | None, typer.Argument(help="The CSV file, UTF-8, with a header row.", dir_okay=False)] = None,
    source: Annotated[str, typer.Option(help="Which system the external ids are of.")] = "hr",
    release: Annotated[
        str | None, typer.Option(help="The id of an import that waits for a person's release; without FILE.")
    ] = None,
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """Import people from a CSV file of the HR system.

    Needed columns: external_id, name, organisation, department, level (1 to 20). Known ones beside them: email, site,
    discipline, manager and evaluators (external ids), employment (active, on_leave, leaving, left), employed_until,
    locale, time_zone, languages, programme (an invitation), side, capacity, experience, offers, seeks.

    Every wrong row is named with its line; the good ones are imported. What a person entered is never overwritten, a
    missing row is no leaver, and the same file may be imported again. Exit code 1 when a row was refused.

    [bold]Examples[/]

      viceversa import people.csv

      viceversa import nightly.csv --source workday --json

      viceversa import --release 0192...    # one that would touch many running pairings waits for this
    """
    if (file is None) == (release is None):
        raise typer.BadParameter("name a FILE, or an import with --release")
    with connections.open_service(data, "profiles") as profiles:
        begun = (
            profiles.post(f"/imports/{release}/release") if release else _upload(profiles, _require_file(file), source)
        )
        done = _await_import(profiles, begun)
        errors = (
            list(profiles.list_items(f"/imports/{done['import_id']}/errors"))
            if done["failed"] or done["remarks"]
            else []
        )
    if json:
        print_json({**done, "errors": errors})
    else:
        _print_import(done, errors)
    if done["state"] == "failed" or done["failed"]:
        raise typer.Exit(FAILED)


def _require_file(file: Path | None) -> Path:
    if file is None or not file.is_file():
        raise Failure(f"There is no file {file}.", "Check the path; a sample is cli/sample/people.csv.")
    return file


def _upload(profiles: ServiceClient, file: Path, source: str) -> Any:
    with progress_bar() as progress, file.open("rb") as content:
        task = progress.add_task("Sending", total=file.stat().st_size)

        def parts() -> Iterator[bytes]:
            while part := content.read(_CHUNK_BYTES):
                progress.advance(task, len(part))
                yield part

        return profiles.call(
            "POST", "/imports", query={"source": source}, content=parts(), headers={"Content-Type": "text/csv"}
        ).body


def _await_import(profiles: ServiceClient, begun: Any) -> Any:
    """The import once it needs no waiting for any longer."""
    with progress_bar() as progress:
        task = progress.add_task("Importing", total=None)
        current = begun
        while current["state"] in ("received", "running"):
            _update_progress(progress, task, current)
            time.sleep(_POLL_S)
            current = profiles.get(f"/imports/{begun['import_id']}")
        _update_progress(progress, task, current)
        return current


def _update_progress(progress: Progress, task: TaskID, current: Any) -> None:
    progress.update(task, total=current["total"], completed=current["rows"])


def _print_import(done: Any, errors: list[Any]) -> None:
    if done["state"] == "failed":
        print_line(f"[bold red]The import failed:[/] {done['failure']}")
    elif done["state"] == "waiting_for_release":
        print_line(
            f"[bold yellow]The import waits for a release:[/] it would touch {done['touched_pairings']} of "
            f"{done['running_pairings']} running pairings.\nLook at the file again, then: "
            f"viceversa import --release {done['import_id']}"
        )
    print_line(
        f"{done['rows']} rows: [bold]{done['created']} created[/], {done['changed']} changed, "
        f"{done['unchanged']} unchanged, {done['failed']} refused, {done['remarks']} remarks."
    )
    if errors:
        shown = errors[:_MAX_ERRORS_SHOWN]
        rows = [
            (one["line"], "refused" if one["refused"] else "remark", one["column"], one["message"]) for one in shown
        ]
        print_table(">line", "", "column", "what", rows=rows)
        if len(errors) > len(shown):
            print_note(f"and {len(errors) - len(shown)} more; --json shows all")


def token(
    as_: Annotated[
        str, typer.Option("--as", metavar="NAME_OR_ID", help="admin, service, or a person: name, e-mail or any id.")
    ],
    coordinates: Annotated[
        list[str] | None,
        typer.Option(
            "--coordinates", metavar="PROGRAMME", help="Also as coordinator of this programme; may be repeated."
        ),
    ] = None,
    hours: Annotated[float, typer.Option(help="How long it counts.", min=0.01, max=24 * 30)] = 1.0,
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """Print a token of the local issuer, to act as somebody; for trying out, tests and the demo.

    A person is also a coordinator of the programmes whose settings name them so. Only who may read the data folder can
    make tokens; a real installation has its own identity provider, and this issuer opens nothing there.

    [bold]Examples[/]

      viceversa token --as admin

      viceversa token --as "Anouk van Dijk"

      curl -H "Authorization: Bearer $(viceversa token --as E32645)" http://127.0.0.1:8101/members/me
    """
    chosen = load_addresses(data)
    programmes = list(coordinates or [])
    member: str | None = None
    if as_ in ("admin", "service"):
        roles = [as_]
    else:
        member = find_person(data, as_)["member_id"]
        programmes += _load_coordinated_programmes(data, member)
        roles = ["member"]
    roles += ["coordinator"] if programmes else []
    made = connections.issue_local_token(
        data, chosen, member, roles, programmes, timedelta(hours=hours), subject=None if member else as_
    )
    if json:
        print_json({"token": made, "member_id": member, "roles": roles, "programmes": programmes})
    else:
        typer.echo(made)


def find_person(data: Path, wanted: str) -> Any:
    """The one person who is meant. Raises ``Failure`` when it is nobody, or several."""
    with connections.open_service(data, "profiles") as profiles:
        for query in ({"external_id": wanted}, {"email": wanted}, {"name": wanted}):
            people = profiles.get("/members", limit=50, **query)["items"]
            exact = [one for one in people if wanted.casefold() == one["name"].casefold()]
            if people := exact or people:
                return _require_one(people, wanted)
        try:
            return profiles.get(f"/members/{wanted}")
        except Failure as failure:
            raise Failure(
                f"Nobody here is called {wanted!r}, and nobody has that id or e-mail.",
                "Import people first (`viceversa import FILE`), or use a part of the name.",
                code=failure.code,
            ) from failure


def _require_one(people: list[Any], wanted: str) -> Any:
    if len(people) == 1:
        return people[0]
    some = "\n".join(f"  {one['name']}: {_display_id(one)}" for one in people[:10])
    raise Failure(f"{len(people)} people fit {wanted!r}:\n{some}", "Use the id of one of them.")


def _display_id(person: Any) -> str:
    return next((one["id"] for one in person["external_ids"]), str(person["member_id"]))


def _load_coordinated_programmes(data: Path, member: str | None) -> list[str]:
    with connections.open_service(data, "matcher") as matcher:
        return [
            str(one["programme_id"])
            for one in matcher.list_items("/programmes")
            if member in one["settings"].get("coordinators", ())
        ]
