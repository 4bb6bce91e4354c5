"""python -m eval --config configs/quickstart.yaml [key=value ...] [--dry-run]"""

import os
import sys
from pathlib import Path

from eval.dry_run import preview
from eval.helper import work
from eval.run import run
from eval.show import show
from fastpath.cli import main
from fastpath.team import is_helper

if is_helper():
    with Path(os.devnull).open("w") as sys.stdout:
        sys.exit(main("eval", work, lambda folder: {}, preview=preview))
sys.exit(main("eval", run, show, preview=preview))
