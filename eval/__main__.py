"""python -m eval --config configs/quickstart.yaml [key=value ...]"""

import sys

from eval.report import show
from eval.run import run
from fastpath.cli import main

sys.exit(main("eval", run, show))
