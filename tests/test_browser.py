"""The report in a real browser: no error, nothing fetched, every section there, not a blank page."""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from PIL import Image
from tiny import run_stage, write_recipe, write_tiny

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
]


def browse(page: Path, *arguments: str) -> subprocess.CompletedProcess:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [CHROMIUM, *QUIET, f"--user-data-dir={profile}", *arguments, page.as_uri()]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    recipe = write_recipe(
        folder / "r.yaml", model=write_tiny(folder / "m"), out=folder / "run", prune={"criterion": "cosine"}
    )
    assert run_stage("prune", recipe) == 0
    assert run_stage("eval", recipe) == 0
    return folder / "run" / "eval" / "report.html"


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium")
def test_report_opens_without_an_error_and_shows_every_section(page):
    done = browse(page, "--dump-dom")
    assert not [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    for section in (
        "Gap: base beside fast",
        "Speed",
        "Cost of each block",
        "One prompt",
        "items on which",
        "Environment",
    ):
        assert re.search(f"<h2>[^<]*{section}", done.stdout), section
    assert done.stdout.count("<svg") == 2


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium")
@pytest.mark.parametrize("width", [1200, 420])
def test_screenshot_is_not_blank_and_the_page_fits_its_width(page, tmp_path, width):
    browse(page, f"--screenshot={tmp_path / 'shot.png'}", f"--window-size={width},1600")
    colours = Image.open(tmp_path / "shot.png").convert("RGB").getcolors(maxcolors=10**7)
    assert len(colours) > 50
    assert max(count for count, _ in colours) < 0.98 * width * 1600
