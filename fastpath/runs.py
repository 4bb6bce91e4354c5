"""A stage's folder: what it was asked, what it made, whether it finished.

The same command again resumes: facts that exist are read back, `DONE` is written last. Every file is written
under a temporary name, flushed to disk and renamed, so a file that exists is whole.
"""

import fcntl
import json
import logging
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastpath.config import Recipe
from fastpath.env import describe_environment
from fastpath.errors import RunError
from fastpath.recipe_file import build_recipe, differing_keys, parse_yaml

log = logging.getLogger("fastpath")

EXPORTING = ("prune", "distill")
"""Stages that leave a model in OUT/STAGE/model, and its plan in OUT/STAGE/plan.json."""
# A model may be made on one device and used on another, with other items.
FREE_TO_DIFFER = ("seed", "model.device", "model.device_map", "model.dtype", "model.trust_remote_code")


@contextmanager
def stage_folder(recipe: Recipe, stage: str) -> Iterator[Path]:
    """Open OUT/STAGE for one process; raise RunError if it was made with another recipe or is in use."""
    asked = recipe.for_stage(stage)
    folder = recipe.out / stage
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"out: cannot make {folder}: {error.strerror}") from None
    with locked(folder / ".lock"):
        if _holds_work(folder):
            check_same_recipe(folder, asked)
        else:
            write_text(folder / "config.yaml", asked.to_yaml())
        if not (folder / "env.json").exists():
            write_json(folder / "env.json", describe_environment())
        yield folder


@contextmanager
def locked(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock file `path`; RunError if another process does and we do not wait for it."""
    with path.open("w") as lock:
        try:
            # The kernel lets go of it when the process dies.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                raise RunError(
                    f"{path.parent}: another process is working there; wait for it or choose another out="
                ) from None
            log.info("%s: another process is working there; we wait for it", path.parent)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _holds_work(folder: Path) -> bool:
    """Whether anything was made here: a recipe refused at once leaves a folder that belongs to nobody."""
    made = {path.name for path in folder.iterdir() if not path.name.endswith(".unfinished")}
    return bool(made - {"config.yaml", "env.json", ".lock"})


def check_same_recipe(folder: Path, asked: Recipe, *, ignore: Collection[str] = ()) -> None:
    """Raise RunError naming the first key in which the recipe that made this stage's folder differs."""
    path = folder / "config.yaml"
    if not path.exists():
        raise RunError(f"{folder}: holds files but no config.yaml; choose another out= or delete it")
    made = build_recipe(parse_yaml(path.read_text(encoding="utf-8"), where=str(path)))
    for key, old, new in differing_keys(made, asked):
        if key not in ignore:
            raise RunError(
                f"{key}: {folder} was made with {old!r}, asked for now is {new!r}; "
                f"choose another out= or delete {folder}"
            )


def exported(recipe: Recipe, stage: str) -> Path:
    """The model folder that a stage of this run exported; RunError if it has not, or by another recipe."""
    folder = recipe.out / stage
    if not is_done(folder):
        raise RunError(f"{folder}: not finished; first run `python -m {stage}` with the same recipe")
    if getattr(recipe, stage) is not None:
        check_same_recipe(folder, recipe.for_stage(stage), ignore=FREE_TO_DIFFER)
    return folder / "model"


def is_done(folder: Path) -> bool:
    """Whether the stage of this folder has finished."""
    return (folder / "DONE").exists()


def finish(folder: Path) -> None:
    """Mark the stage of this folder as finished; its existence means that everything else is whole."""
    write_text(folder / "DONE", "")


def step(folder: Path, name: str, make: Callable[[], Any]) -> Any:
    """The JSON file `name`, made once: a rerun reads it back."""
    path = folder / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, make())
    return read_json(path)


def read_json(path: Path) -> Any:
    """The data of a JSON file; RunError names a file that cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{path}: no such file; delete DONE beside it to have it made again") from None
    except ValueError as error:
        raise RunError(f"{path}: not valid JSON ({error}); delete it to have it made again") from None


def write_json(path: Path, data: Any) -> None:
    """Write data as JSON, whole or not at all."""
    write_text(path, json.dumps(data, indent=1, allow_nan=False, default=list) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        with unfinished.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder that appears at `path` when the block ends without error; an older one survives until then."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        mask = os.umask(0)
        os.umask(mask)
        for file in (path for path in unfinished.rglob("*") if path.is_file()):
            file.chmod(0o666 & ~mask)  # some writers leave 0600, and a server of another user reads these
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    older = path.with_name(f".{path.name}.older")
    shutil.rmtree(older, ignore_errors=True)
    if path.exists():
        path.rename(older)
    unfinished.rename(path)
    shutil.rmtree(older, ignore_errors=True)
