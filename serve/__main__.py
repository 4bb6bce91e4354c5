"""python -m serve --config runs/NAME/serve.yaml [key=value ...]"""

import argparse
import logging
import sys

from fastpath.cli import guarded
from fastpath.recipe_file import load_recipe
from serve.run import run


def main() -> int:
    """Serve a recipe's tiers; the exit code: 0 stopped as asked, 2 the user's to mend."""
    parser = argparse.ArgumentParser(
        prog="python -m serve", description="Serve a recipe's tiers behind one OpenAI-compatible endpoint."
    )
    parser.add_argument("--config", required=True, help="recipe file, for example configs/quickstart.yaml")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="for example serve.port=9000 serve.tiers=[standard]"
    )
    arguments = parser.parse_intermixed_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("fastpath").setLevel(logging.INFO)

    def work() -> None:
        run(load_recipe(arguments.config, arguments.overrides))

    return guarded(work)


if __name__ == "__main__":
    sys.exit(main())
