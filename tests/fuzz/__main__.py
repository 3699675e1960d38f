"""Fuzz every service as every role with schemathesis: no answer is a 5xx, and no status is missing in the description.

    ./scripts/fuzz-http --minutes 3

The services run on servers of their own in a folder that is removed afterwards. Known ids take part in the requests, so
that many of them reach beyond "not found".
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCHEMATHESIS = ROOT / ".venv.fuzz" / "bin" / "schemathesis"
SERVERS = ("VICEVERSA_KAFKA", "VICEVERSA_MONGO")  # of another installation, which a fuzzer must not touch
PROGRAMME = "fuzzed"
PEOPLE = "external_id,name,organisation,department,level,email,programme,side\n" + "".join(
    f"e{number},Person {number},halden,d{number % 3},{4 + number},p{number}@halden.example,{PROGRAMME},"
    f"{'senior' if number > 6 else 'junior'}\n"
    for number in range(12)
)
CHECKS = "not_a_server_error,status_code_conformance"
QUICK_SECONDS = 6  # for each service
FULL_COVERAGE = "examples,coverage,fuzzing"


def viceversa(data: Path, *arguments: str) -> str:
    """What a command prints. Raises ``CalledProcessError``."""
    environment = {name: value for name, value in os.environ.items() if name not in SERVERS}
    command = [sys.executable, "-m", "cli.main", *arguments, "--data", str(data)]
    return subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


@contextmanager
def running_stack() -> Iterator[tuple[Path, Mapping[str, str]]]:
    """The data folder and the URLs of the services, with people and a programme."""
    with tempfile.TemporaryDirectory(prefix="viceversa-fuzz-") as folder:
        data = Path(folder) / "data"
        try:
            urls = json.loads(viceversa(data, "up", "--json"))["urls"]
            settings = str(ROOT / "cli" / "sample" / "programme.json")
            viceversa(data, "programme", "create", settings, "--id", PROGRAMME, "--open")
            people = Path(folder) / "people.csv"
            people.write_text(PEOPLE, encoding="utf-8")
            viceversa(data, "import", str(people))
            yield data, urls
        finally:
            viceversa(data, "down")


def issue_tokens(data: Path) -> dict[str, str | None]:
    """A token for each role; None for a caller without one."""
    return {
        "admin": viceversa(data, "token", "--as", "admin").strip(),
        "service": viceversa(data, "token", "--as", "service").strip(),
        "member": viceversa(data, "token", "--as", "e1").strip(),
        "coordinator": viceversa(data, "token", "--as", "e2", "--coordinates", PROGRAMME).strip(),
        "nobody": None,
    }


def fuzz(url: str, token: str | None, seconds: int, environment: Mapping[str, str], seed: int) -> subprocess.Popen[str]:
    """One run against one service as one caller, or as the callers whose tokens the environment holds."""
    command = [str(SCHEMATHESIS), "run", f"{url}/openapi.json", "--checks", CHECKS]
    command += ["--phases", FULL_COVERAGE, "--max-time", str(seconds), "--continue-on-failure", "--no-color"]
    command += ["--suppress-health-check", "all", "--seed", str(seed), "--generation-database", "none"]
    command += ["-H", f"Authorization: Bearer {token}"] if token else []
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="./scripts/fuzz-http", description="Fuzz every service as every role.")
    parser.add_argument("--minutes", type=float, default=3, help="the time for all runs together")
    parser.add_argument("--seed", type=int, default=0, help="the same seed sends the same requests")
    parser.add_argument("--quick", action="store_true", help="half a minute: one run for each service, of mixed roles")
    options = parser.parse_args()
    failed = []
    with running_stack() as (data, urls):
        services = {name: url for name, url in urls.items() if name != "issuer"}
        tokens = issue_tokens(data)
        members = json.loads(viceversa(data, "token", "--as", "e1", "--json"))["member_id"]
        environment = {"SCHEMATHESIS_HOOKS": "tests.fuzz.known_ids", "FUZZ_IDS": json.dumps([members, "me", PROGRAMME])}
        seconds = max(1, round(options.minutes * 60 / (len(services) * len(tokens))))
        if options.quick:
            environment["FUZZ_TOKENS"] = json.dumps(list(tokens.values()))
            tokens, seconds = {"drawn roles": None}, QUICK_SECONDS
        for role, token in tokens.items():
            for name, url in services.items():
                run = fuzz(url, token, seconds, environment, options.seed)
                output, _ = run.communicate()
                sys.stdout.write(f"{name} as {role}: {'clean' if run.returncode == 0 else 'FAILED'}\n")
                sys.stdout.flush()
                if run.returncode:
                    failed.append(f"{name} as {role}")
                    sys.stdout.write(output)
    sys.stdout.write(f"{len(failed)} runs failed.\n" if failed else "No 5xx, and no undocumented status.\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
