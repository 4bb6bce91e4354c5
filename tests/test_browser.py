"""The report in a real browser: no error, every section there, tables sort, not a blank page."""

import re
import shutil
import subprocess
import tempfile
from html import escape, unescape
from pathlib import Path

import pytest
from PIL import Image
from run_folders import copy_run, report_of, write_run

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium")
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
DARK = "--blink-settings=preferredColorScheme=0"
TABLE = """<table class="sortable"><thead><tr><th>task</th><th>points</th></tr></thead>
<tbody><tr><td>b</td><td>+9.8 [+5.9, +14.0]</td></tr><tr><td>c</td><td>-12.0 [-13.0, 1.0]</td></tr>
<tr><td>a</td><td></td></tr><tr><td>d</td><td>1,070 [1,000, 1,100]</td></tr><tr><td>e</td><td>97%</td></tr>
<tr class="total"><td>mean</td><td>+0.0</td></tr></tbody>
<tbody><tr><td>z</td><td>2</td></tr><tr><td>y</td><td>1e-3</td></tr></tbody></table>"""


def browse(page: Path, *arguments: str) -> subprocess.CompletedProcess:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [CHROMIUM, *QUIET, f"--user-data-dir={profile}", *arguments, page.as_uri()]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("report"))


@pytest.fixture
def page(run):
    return run / "eval" / "report.html"


def with_script(page: Path, script: str, target: Path, *, table: str = "") -> Path:
    """A copy of the page that has a `table` in front and does something after loading."""
    text = page.read_text().replace("<main>", f"<main>{table}", 1)
    target.write_text(text.replace("</body>", f"<script>{script}</script></body>"))
    return target


def cells(dom: str) -> list[str]:
    """First column of the table in front."""
    table = dom[dom.index("<main>") : dom.index("</table>", dom.index("<main>"))]
    return re.findall(r"<tr[^>]*><td>(\w+)", table)


def test_report_opens_without_an_error_and_shows_every_section(page):
    done = browse(page, "--dump-dom")
    assert not [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    for section in (
        "What was removed, and why",
        "Gap: base beside fast",
        "Depth: ",
        "Speed against accuracy",
        "Speed",
        "Error profile",
        "One prompt",
        "Lineage",
        "Environment",
    ):
        assert re.search(f"<h2[^>]*>{section}", done.stdout), section
    plots = "blocks, gap, one dial twice, two frontiers, two shares of a ceiling"
    assert done.stdout.count("<svg") == 8, plots


@pytest.mark.parametrize(
    ("column", "clicks", "order"),
    [
        (1, 1, "abcde"),
        (1, 2, "edcba"),
        (2, 1, "cbeda"),
        (2, 2, "debca"),
    ],
)
def test_heading_sorts_numbers_as_numbers_and_leaves_sums_below(page, tmp_path, column, clicks, order):
    click = f"document.querySelector('main th:nth-child({column}) button').click();"
    done = browse(with_script(page, click * clicks, tmp_path / "p.html", table=TABLE), "--dump-dom")
    assert not [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    direction = "ascending" if clicks == 1 else "descending"
    assert f'aria-sort="{direction}"' in done.stdout
    second = ["y", "z"] if clicks == 1 else ["z", "y"]
    assert cells(done.stdout) == [*order, "mean", *second]


def test_every_sort_button_is_named(page):
    dom = browse(page, "--dump-dom").stdout
    buttons = re.findall(r"<th[^>]*><button>(.*?)</button>", dom)
    assert len(buttons) > 20
    assert all(buttons)


def test_page_works_without_script(page, tmp_path):
    bare = tmp_path / "bare.html"
    bare.write_text(re.sub(r"<script>.*?</script>", "", page.read_text(), flags=re.DOTALL))
    dom = browse(bare, "--dump-dom").stdout
    assert "<button" not in dom
    assert '<th scope="col">points lost (95 %)</th>' in dom


def test_details_open_for_print(page, tmp_path):
    script = "dispatchEvent(new Event('beforeprint'))"
    dom = browse(with_script(page, script, tmp_path / "p.html"), "--dump-dom").stdout
    assert "<details open" in dom
    assert "<details>" not in dom


@pytest.mark.parametrize("width", [1200, 390])
@pytest.mark.parametrize("look", ["light", "dark"])
def test_screenshot_is_not_blank_and_follows_the_light(page, tmp_path, width, look):
    dark = [DARK] if look == "dark" else []
    browse(page, f"--screenshot={tmp_path / 'shot.png'}", f"--window-size={width},1600", *dark)
    colours = Image.open(tmp_path / "shot.png").convert("RGB").getcolors(maxcolors=10**7)
    count, most = max(colours)
    assert len(colours) > 50
    assert count < 0.98 * width * 1600
    assert (max(most) < 60) if look == "dark" else (min(most) > 200)


def test_phone_scrolls_tables_not_the_page(page, tmp_path):
    """In a frame, for a window cannot be made that narrow."""
    tell = "parent.postMessage([document.documentElement.scrollWidth, innerWidth].join(' of '), '*')"
    inside = with_script(page, tell, tmp_path / "p.html").read_text()
    host = tmp_path / "host.html"
    host.write_text(
        "<!doctype html><script>addEventListener('message', e => document.title = e.data)</script>"
        f'<iframe style="width:360px;height:900px;border:0" srcdoc="{escape(inside)}"></iframe>'
    )
    dom = browse(host, "--dump-dom", "--virtual-time-budget=3000").stdout
    assert "<title>360 of 360</title>" in unescape(dom)


def test_several_runs_open_without_an_error(run, tmp_path, monkeypatch):
    other = copy_run(run, tmp_path / "other")
    assert report_of(monkeypatch, run, other, "--out", tmp_path) == 0
    done = browse(tmp_path / "report.html", "--dump-dom")
    assert not [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    for section in ("Side by side", "Speed against accuracy", "Points lost, task by task", "In words: other"):
        assert re.search(f"<h2[^>]*>{section}", done.stdout), section
