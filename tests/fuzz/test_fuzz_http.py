"""A short run of the fuzzer in the suite. `./scripts/fuzz-http --minutes 3` is the long one."""

import subprocess
import sys

import pytest

from tests.fuzz.__main__ import ROOT, SCHEMATHESIS
from tests.patience import patience


@pytest.mark.usefixtures("no_external_servers")
class TestFuzz:
    def test_no_role_gets_a_5xx_or_an_undocumented_status(self) -> None:
        if not SCHEMATHESIS.exists():
            pytest.skip("schemathesis is not installed (./scripts/fuzz-http --install)")
        run = subprocess.run(
            [sys.executable, "-m", "tests.fuzz", "--quick"],
            cwd=ROOT, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=patience(120),
        )  # fmt: skip
        assert run.returncode == 0, run.stdout[-20_000:]
