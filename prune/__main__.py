"""python -m prune --config configs/quickstart.yaml [key=value ...]"""

import sys

from fastpath.cli import main
from prune.run import run
from prune.show import show

sys.exit(main("prune", run, show))
