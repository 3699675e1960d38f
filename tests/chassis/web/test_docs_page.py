"""The page that describes the API: from our own package, under a strict policy, without the internet."""

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from chassis.core.settings import Settings
from chassis.web.docs_page import POLICY
from chassis.web.http import create_app
from chassis.web.server import serve_http
from deploy.local import ports
from tests.patience import patience

CHROMIUM = shutil.which("chromium")


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """The address of a running service without routes of its own."""
    settings = Settings()
    port = ports.any_free()
    async with serve_http(create_app("alpha", settings, routers=[]), settings, "127.0.0.1", port):
        yield f"http://127.0.0.1:{port}"


class TestDocsPage:
    async def test_page_and_its_files_come_from_here_without_a_token(self, url: str) -> None:
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            page = await client.get("/docs")
            assert page.headers["content-security-policy"] == POLICY
            addresses = re.findall(r'(?:src|href)="([^"]+)"', page.text)
            assert len(addresses) == 4
            for address in addresses:
                answer = await client.get(httpx.URL(f"{url}/docs").join(address))
                assert answer.status_code == httpx.codes.OK, address
                assert len(answer.content) > 100
                assert answer.headers["x-content-type-options"] == "nosniff"

    async def test_nothing_in_it_is_inline_or_elsewhere(self, url: str) -> None:
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            page = (await client.get("/docs")).text
        assert "//" not in page
        assert not re.search(r"<script(?![^>]*src=)|<style|style=|\son\w+=", page)
        assert "unsafe" not in POLICY

    @pytest.mark.parametrize("name", ["core.py", "..%2Fcore.py", "%2e%2e/core.py", "redoc.standalone.js"])
    async def test_no_other_file_is_served(self, url: str, name: str) -> None:
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            assert (await client.get(f"/docs/{name}")).status_code == httpx.codes.NOT_FOUND

    @pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (apt-get install chromium)")
    async def test_a_browser_shows_it_without_a_complaint(self, url: str, tmp_path: Path) -> None:
        arguments = [
            "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", "--virtual-time-budget=20000",
            "--enable-logging=stderr", "--dump-dom", f"{url}/docs",
        ]  # fmt: skip
        browser = await asyncio.create_subprocess_exec(
            str(CHROMIUM), *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(patience(20)):
            dom, log = await browser.communicate()
        assert b"Viceversa: alpha" in dom
        assert [line for line in log.splitlines() if b":CONSOLE" in line] == []
