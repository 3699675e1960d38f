"""`import`, `invite` and `token`: import people, invite some of them, and act as one of them."""

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import Progress, TaskID

from cli import connections
from cli.api import ServiceClient
from cli.console import FAILED, Failure, print_json, print_line, print_note, print_table, print_text, progress_bar
from cli.installation import DEFAULT_DATA, DataOption, JsonOption, load_addresses

_POLL_S = 0.2
_CHUNK_BYTES = 256 * 1024
_MAX_ERRORS_SHOWN = 20


def register(app: typer.Typer) -> None:
    app.command("import")(import_)
    app.command()(invite)
    app.command()(token)


def import_(
    file: Annotated[Path | None, typer.Argument(help="The file, with a header row.", dir_okay=False)] = None,
    source: Annotated[str, typer.Option(help="The system that issued the external ids.")] = "hr",
    organisation: Annotated[
        str | None, typer.Option(help="The organisation of all people, where the file has no column for it.")
    ] = None,
    release: Annotated[
        str | None, typer.Option(help="The id of an import that waits for a release. Use it without FILE.")
    ] = None,
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """Import people from a file of the HR system. Needs an admin, or a service bound to the source.

    The file is read as it is: with commas, semicolons or tabs; in UTF-8, UTF-16 or Windows-1252; and with the column
    names of Workday, SAP SuccessFactors, BambooHR and Personio, in English or German.

    Required columns: external_id, name (or first_name and last_name), organisation, department, level (1 to 20).
    Optional columns: email, site, discipline, manager and evaluators (external ids or e-mail addresses), employment
    (active, on_leave, leaving, left), employed_until, locale, time_zone, languages, programme (an invitation), side,
    capacity, experience, offers, seeks.

    Every bad row is reported with its line, and the good rows are imported. An import never overwrites data that a
    person entered. A person who is missing from the file has not left. The same file may be imported again. Exit code 1
    when a row was refused, and when rows wait for a release.

    [bold]Examples[/]

      viceversa import people.csv

      viceversa import nightly.csv --source workday --json

      viceversa import sap-export.csv --source sap --organisation nordwerk

      viceversa import --release 0192...    # the held rows of another admin's import (`viceversa imports`)
    """
    if (file is None) == (release is None):
        raise typer.BadParameter("give either a FILE, or an import with --release")
    with connections.open_service(data, "profiles") as profiles:
        started = (
            profiles.post(f"/imports/{release}/release")
            if release
            else upload(profiles, "/imports", require_file(file), source, organisation)
        )
        done = await_import(profiles, started)
        errors = (
            list(profiles.list_items(f"/imports/{done['import_id']}/errors"))
            if done["failed"] or done["remarks"]
            else []
        )
    if json:
        print_json({**done, "errors": errors})
    else:
        print_import(done, errors)
    if done["state"] != "done" or done["failed"]:
        raise typer.Exit(FAILED)


def invite(
    programme: Annotated[str, typer.Argument(help="The id of the programme.")],
    file: Annotated[Path, typer.Argument(help="The CSV file with the people to invite.", dir_okay=False)],
    source: Annotated[str, typer.Option(help="The system that issued the external ids.")] = "hr",
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """Invite people to a programme, from a CSV file.

    Columns: external_id or email, and optionally side (senior, junior, either) and capacity. The people must have been
    imported before; nothing else of them changes. Each person decides whether to enrol.

    The report names rows that are badly written. It does not tell a coordinator who exists: people become visible when
    they enrol. An admin also sees the rows that reach nobody.

    [bold]Example[/]

      viceversa invite fresh-eyes invited.csv
    """
    with connections.open_service(data, "profiles") as profiles:
        started = upload(profiles, f"/programmes/{programme}/invitations", require_file(file), source)
        done = await_import(profiles, started)
        errors = list(profiles.list_items(f"/imports/{done['import_id']}/errors"))
    if json:
        print_json({**done, "errors": errors})
    else:
        if done["state"] == "failed":
            print_line(f"[bold red]Nobody was invited:[/] {done['failure']}")
        print_line(f"{done['rows']} rows, {done['failed']} of them refused.")
        print_issues(errors)
    if done["state"] != "done" or done["failed"]:
        raise typer.Exit(FAILED)


def require_file(file: Path | None) -> Path:
    if file is None or not file.is_file():
        raise Failure(f"There is no file {file}.", "Check the path. A sample file is cli/sample/people.csv.")
    return file


def upload(profiles: ServiceClient, path: str, file: Path, source: str, organisation: str | None = None) -> Any:
    query = {"source": source, **({"organisation": organisation} if organisation else {})}
    with progress_bar() as progress, file.open("rb") as content:
        task = progress.add_task("Sending", total=file.stat().st_size)

        def parts() -> Iterator[bytes]:
            while part := content.read(_CHUNK_BYTES):
                progress.advance(task, len(part))
                yield part

        return profiles.call("POST", path, query=query, content=parts(), headers={"Content-Type": "text/csv"}).body


def await_import(profiles: ServiceClient, started: Any) -> Any:
    """Wait until the import has ended or waits for a release, and return it."""
    with progress_bar() as progress:
        task = progress.add_task("Importing", total=None)
        current = started
        while current["state"] in ("received", "running"):
            _update_progress(progress, task, current)
            time.sleep(_POLL_S)
            current = profiles.get(f"/imports/{started['import_id']}")
        _update_progress(progress, task, current)
        return current


def _update_progress(progress: Progress, task: TaskID, current: Any) -> None:
    progress.update(task, total=current["total"], completed=current["rows"])


def print_import(result: Any, errors: list[Any]) -> None:
    if result["state"] in ("failed", "cancelled"):
        reason = f" {escape(result['failure'])}" if result["failure"] else ""
        print_line(
            f"[bold red]The import {'was cancelled' if result['state'] == 'cancelled' else 'failed:'}[/]{reason}"
        )
    elif result["state"] == "waiting_for_release":
        touched = (
            f": they touch {result['touched_pairings']} of {result['running_pairings']} running pairings"
            if result["touched_pairings"] is not None
            else ""
        )
        print_line(
            f"[bold yellow]Some rows wait for a release{touched}.[/] The other rows are imported.\n"
            f"The pairs: viceversa imports pairs {result['import_id']}\n"
            f"Another admin releases them: viceversa imports release {result['import_id']}"
        )
    print_line(
        f"{result['rows']} rows: [bold]{result['created']} created[/], {result['changed']} changed, "
        f"{result['unchanged']} unchanged, {result['failed']} refused, {result['remarks']} remarks."
    )
    print_issues(errors)


def print_issues(errors: list[Any]) -> None:
    if errors:
        shown = errors[:_MAX_ERRORS_SHOWN]
        rows = [
            (error["line"], "refused" if error["refused"] else "remark", error["column"], error["message"])
            for error in shown
        ]
        print_table(">line", "", "column", "problem", rows=rows)
        if len(errors) > len(shown):
            print_note(f"and {len(errors) - len(shown)} more; --json shows all")


def token(
    as_: Annotated[
        str,
        typer.Option(
            "--as", metavar="NAME_OR_ID", help="admin, service, or a person: a name, an e-mail address or an id."
        ),
    ],
    coordinates: Annotated[
        list[str] | None,
        typer.Option(
            "--coordinates", metavar="PROGRAMME", help="Also act as coordinator of this programme. May be repeated."
        ),
    ] = None,
    hours: Annotated[float, typer.Option(help="The lifetime of the token in hours.", min=0.01, max=24 * 30)] = 1.0,
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """Print a token of the local issuer, to act as somebody. It is meant for trials, tests and the demo.

    A person also becomes a coordinator of the programmes whose settings name them. Only users who can read the data
    folder can issue tokens. A real installation has its own identity provider and does not accept these tokens.

    [bold]Examples[/]

      viceversa token --as admin

      viceversa token --as "Anouk van Dijk"

      curl -H "Authorization: Bearer $(viceversa token --as E32645)" http://127.0.0.1:8101/members/me
    """
    addresses = load_addresses(data)
    programmes = list(coordinates or [])
    member: str | None = None
    if as_ in ("admin", "service"):
        roles = [as_]
    else:
        member = find_person(data, as_)["member_id"]
        programmes += _load_coordinated_programmes(data, member)
        roles = ["member"]
    roles += ["coordinator"] if programmes else []
    new_token = connections.issue_local_token(
        data, addresses, member, roles, programmes, timedelta(hours=hours), subject=None if member else as_
    )
    if json:
        print_json({"token": new_token, "member_id": member, "roles": roles, "programmes": programmes})
    else:
        print_text(new_token)


def find_person(data: Path, name_or_id: str) -> Any:
    """The person with this id, e-mail address or name. Raises ``Failure`` for no match or several."""
    with connections.open_service(data, "profiles") as profiles:
        for query in ({"external_id": name_or_id}, {"email": name_or_id}, {"name": name_or_id}):
            people = profiles.get("/members", limit=50, **query)["items"]
            exact = [person for person in people if name_or_id.casefold() == person["name"].casefold()]
            if people := exact or people:
                return _require_one(people, name_or_id)
        try:
            return profiles.get(f"/members/{name_or_id}")
        except Failure as failure:
            raise Failure(
                f"There is no person with the name, id or e-mail address {name_or_id!r}.",
                "Import people first (`viceversa import FILE`), or use a part of the name.",
                code=failure.code,
            ) from failure


def _require_one(people: list[Any], name_or_id: str) -> Any:
    if len(people) == 1:
        return people[0]
    candidates = "\n".join(f"  {person['name']}: {_display_id(person)}" for person in people[:10])
    raise Failure(f"{len(people)} people match {name_or_id!r}:\n{candidates}", "Use the id of one of them.")


def _display_id(person: Any) -> str:
    return next((external_id["id"] for external_id in person["external_ids"]), str(person["member_id"]))


def _load_coordinated_programmes(data: Path, member: str | None) -> list[str]:
    with connections.open_service(data, "matcher") as matcher:
        return [
            str(programme["programme_id"])
            for programme in matcher.list_items("/programmes")
            if member in programme["settings"].get("coordinators", ())
        ]
