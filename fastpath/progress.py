"""One progress bar for long work: what is running, how far it is, how long is left. On stderr."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

log = logging.getLogger("fastpath")
SECONDS_BETWEEN_LINES = 15.0


@contextmanager
def progress(what: str, total: float) -> Iterator[Callable[..., None]]:
    """Inside the block, advance(amount) moves the bar; without a terminal, a line every 15 seconds.

    advance(amount, note) also says `note` beside it, until another one is given. With kept=True
    the amount is what an earlier run has left: the time left is reckoned without it.
    """
    if sys.stderr.isatty():
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(what, total=total, note="")

            def move(amount: float, note: str | None = None, *, kept: bool = False) -> None:
                if kept:
                    bar.tasks[task].completed += amount  # no sample of the speed
                else:
                    bar.update(task, advance=amount)
                if note is not None:
                    bar.update(task, note=note)

            yield move
        return
    done, before, said, start, last = 0.0, 0.0, "", time.monotonic(), time.monotonic()

    def advance(amount: float, note: str | None = None, *, kept: bool = False) -> None:
        nonlocal done, before, said, last
        done, before = done + amount, before + amount * kept
        said, now = said if note is None else f", {note}", time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES and before < done < total:
            last, left = now, (now - start) * (total - done) / (done - before)
            log.info("%s: %.0f %%, about %s left%s", what, 100 * done / total, _minutes(left), said)

    log.info("%s ...", what)
    yield advance
    log.info("%s: done in %s", what, _minutes(time.monotonic() - start))


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"
