"""What runs found, for people: report.html and report.md. Reads run folders only.

python -m eval.report runs/quickstart           writes runs/quickstart/eval/report.html, report.md
python -m eval.report runs/a runs/b             side by side: writes runs/a+b/report.html, report.md
"""

import argparse
import sys
from pathlib import Path

from eval.compare import runs_page
from eval.facts import read_facts, read_results
from eval.pages import html, markdown
from eval.sections import Page, run_page
from eval.speed_tables import speed_table
from eval.tables import gap_table
from fastpath.cli import guarded
from fastpath.errors import RunError
from fastpath.runs import write_text


def write_report(folder: Path) -> None:
    """Write report.md and report.html into an eval folder that has results.json."""
    _write(run_page(read_facts(folder)), folder)


def _write(page: Page, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"--out: cannot make {folder}: {error.strerror}") from None
    write_text(folder / "report.md", markdown(page))
    write_text(folder / "report.html", html(page))


def _named(runs: list[Path]) -> dict[str, Path]:
    """Name -> run: the folder's name where it says which, else the path."""
    names = [run.resolve().name for run in runs]
    if len({run.resolve() for run in runs}) < len(runs):
        raise RunError("the same run is named twice")
    return {name if names.count(name) == 1 else str(run): run for name, run in zip(names, runs, strict=True)}


def gap_markdown(folder: Path, label: str) -> str:
    """The measured gap of one variant, for its model card."""
    results = read_results(folder)
    return (
        gap_table(label, results["variants"][label]).markdown()
        + "\n"
        + speed_table(results["speed"]).markdown()
    )


def main() -> int:
    """Write the report of finished runs again and print it with its path."""
    description, _, examples = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m eval.report",
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", type=Path, nargs="+", help="run folders, for example runs/quickstart")
    parser.add_argument("--out", type=Path, help="folder of the report; default: in the run, or runs/a+b")
    arguments = parser.parse_args()

    def work() -> None:
        runs: list[Path] = arguments.runs
        if len(runs) == 1:
            folder = runs[0] / "eval"
            page = run_page(read_facts(folder))
        else:
            folder = runs[0].parent / "+".join(dict.fromkeys(run.resolve().name for run in runs))
            page = runs_page({name: read_facts(run / "eval") for name, run in _named(runs).items()})
        folder = arguments.out or folder
        _write(page, folder)
        print((folder / "report.md").read_text(encoding="utf-8"))
        print(folder / "report.html")

    return guarded(work)


if __name__ == "__main__":
    sys.exit(main())
