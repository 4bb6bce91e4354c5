"""python -m eval --config configs/quickstart.yaml [key=value ...]"""

import sys

from eval.run import run
from eval.show import show
from fastpath.cli import main

sys.exit(main("eval", run, show))
