"""The page at / in a real browser: it loads nothing from elsewhere, shows the tiers, asks two of them."""

import re
import subprocess
import tempfile

import pytest
from serving import CHAT, running, scripted_gateway
from test_browser import CHROMIUM, QUIET

from serve.page_facts import PAGE


def test_the_page_is_there_and_its_facts_ask_for_a_key(tmp_path):
    with running(scripted_gateway(tmp_path, keys=[{"key": "k" * 20, "name": "one"}])) as client:
        page = client.get("/")
        assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert client.get("/stats").status_code == 401
    assert not re.search(r"https?://|src=|@import", PAGE.read_text())


def test_facts_are_those_of_the_last_answers(tmp_path):
    with running(scripted_gateway(tmp_path)) as client:
        assert client.get("/stats").json()["tiers"]["fast"]["ttft_p50_seconds"] is None
        for _ in range(3):
            client.post("/v1/chat/completions", json={**CHAT, "service_tier": "fast", "max_tokens": 2})
        fast = client.get("/stats").json()["tiers"]["fast"]
    assert 0 < fast["ttft_p50_seconds"] <= fast["ttft_p95_seconds"]
    assert fast["prefix_hit_rate"] == pytest.approx(4 / 7)
    assert (fast["running"], fast["waiting"], fast["queue_limit"]) == (0, 0, 16)


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium")
def test_a_browser_shows_the_tiers_and_both_answers(tmp_path):
    gateway = scripted_gateway(tmp_path)
    with running(gateway) as client, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        # The page waits for a person; this script is the person.
        click = "at('tokens').value = 3; document.querySelector('button').click()"
        person = f"<script>setTimeout(() => {{ {click} }}, 1500)</script></body>"
        acting = tmp_path / "index.html"
        acting.write_text(PAGE.read_text().replace("</body>", person))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("serve.gateway.PAGE", acting)
            command = [
                CHROMIUM,
                *QUIET,
                f"--user-data-dir={profile}",
                "--virtual-time-budget=6000",
                "--dump-dom",
            ]
            done = subprocess.run(
                [*command, str(client.base_url)], capture_output=True, text=True, timeout=120, check=True
            )
    assert not [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    assert re.findall(r"<tr class=\"\"><td>(\w+)</td>", done.stdout) == ["fast", "standard", "deep"]
    assert re.findall(r'id="(\w+)-answer">([^<]*)<', done.stdout) == [("left", "0 1 2 "), ("right", "0 1 2 ")]
    assert "fast: first token" in done.stdout and "standard: first token" in done.stdout
