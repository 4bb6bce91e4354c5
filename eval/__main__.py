"""python -m eval --config configs/quickstart.yaml [key=value ...] [--dry-run]"""

import sys

from eval.dry_run import preview
from eval.report import show
from eval.run import run
from fastpath.cli import main

sys.exit(main("eval", run, show, preview=preview))
