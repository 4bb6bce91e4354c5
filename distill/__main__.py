"""python -m distill --config configs/smollm2-135m-distill.yaml [key=value ...]"""

import os
import sys
from pathlib import Path

from distill.helper import work
from distill.run import run
from distill.show import show
from fastpath.cli import main
from fastpath.team import is_helper

if is_helper():
    with Path(os.devnull).open("w") as sys.stdout:
        sys.exit(main("distill", work, lambda folder: {}))
sys.exit(main("distill", run, show))
