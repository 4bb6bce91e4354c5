"""The recipe's tiers: which model answers each, and which of them share an engine."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastpath.config import Recipe
from fastpath.config_serve import TIERS, ServeConfig, TierConfig, TierName
from fastpath.errors import ConfigError
from serve.engine import Engine
from serve.openai_engine import OpenAIEngine
from serve.queues import TierQueue
from serve.transformers_engine import TransformersEngine
from serve.warm import read_warm

ALIASES = {"priority": "fast"}
"""Words for tiers that clients of OpenAI know."""
DEFAULTS = ("auto", "default")
NICE = 5  # of the processor's time the engine of a lower tier leaves what a higher one's wants


@dataclass
class Tier:
    """One tier, ready to take requests."""

    name: str
    rank: int
    config: TierConfig
    model: str
    """What answers: a model's name or folder."""
    queue: TierQueue
    engine: Engine

    @property
    def shown_model(self) -> str:
        """The model for clients: of a folder the last two names, not where it lies on this machine."""
        return "/".join(Path(self.model).parts[-2:]) if Path(self.model).is_dir() else self.model

    @property
    def context_tokens(self) -> int:
        """Most tokens of prompt and answer."""
        return min(self.config.context_tokens, self.engine.context_tokens)

    @property
    def max_new_tokens(self) -> int:
        """Longest answer that a request may ask for."""
        return min(self.config.max_new_tokens, self.context_tokens - 1)


def build_tiers(
    recipe: Recipe,
    config: ServeConfig,
    make: Callable[[str, dict[str, Any]], Engine] = TransformersEngine,
) -> dict[str, Tier]:
    """The served tiers with their engines, not started yet. Raises ConfigError."""
    served = config.served()
    models = {
        name: tier.model if tier.url else model_of(name, tier.model, recipe) for name, tier in served.items()
    }
    # fast never shares: its engine is what keeps it from waiting behind the others.
    groups: dict[tuple[str | None, str, bool], list[TierName]] = {}
    for name, tier in served.items():
        groups.setdefault((tier.url, models[name], name == "fast"), []).append(name)
    num_local = sum(url is None for url, _, _ in groups)
    threads = threads_each(num_local)
    warm = read_warm(config)
    tiers: dict[TierName, Tier] = {}
    for (url, model, _), members in groups.items():
        title = " and ".join(members)
        engine: Engine
        if url:
            engine = OpenAIEngine(title, served[members[0]])
        else:
            engine = make(title, {**spec_of(recipe, config, model, members, threads), "warm": warm})
        for name in members:
            tier = served[name]
            tiers[name] = Tier(name, TIERS.index(name), tier, model, TierQueue(name, tier), engine)
    return {name: tiers[name] for name in served}


def threads_each(num_engines: int) -> int:
    """Threads of each engine: $OMP_NUM_THREADS, else an equal share of the cores."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdecimal() else max(1, len(os.sched_getaffinity(0)) // max(1, num_engines))


def spec_of(
    recipe: Recipe, config: ServeConfig, model: str, names: list[TierName], threads: int
) -> dict[str, Any]:
    """What a worker process needs to know."""
    tiers = {name: getattr(config, name) for name in names}
    revision = recipe.model.revision if model == recipe.model.name else "main"  # of that model alone
    return {
        "name": model,
        "model": {**recipe.model.model_dump(), "revision": revision},
        "threads": threads,
        "nice": NICE * min(TIERS.index(name) for name in names),
        "tiers": {
            name: {"running": tier.running, "context_tokens": tier.context_tokens}
            for name, tier in tiers.items()
        },
        "cache_gib": config.cache_gib,
        "prefix_cache": config.prefix_cache,
        "step_seconds": config.step_seconds,
        "promote_seconds": config.promote_seconds,
        "scheduler": "tiers",  # "fifo" is transformers' own, for comparison
    }


def model_of(tier: str, asked: str, recipe: Recipe) -> str:
    """The model's name or folder that a tier asks for. Raises ConfigError if this run has not made it."""
    if asked == "base":
        return recipe.model.name
    stages = {"auto": ("distill", "prune"), "distill": ("distill",), "prune": ("prune",)}.get(asked)
    if stages is None:
        return asked
    folders = [recipe.out / stage / "model" for stage in stages]
    made = [folder for folder in folders if folder.is_dir()]
    if not made:
        looked = " and ".join(map(str, folders))
        raise ConfigError(
            f"serve.{tier}.model: {asked!r} looks for {looked}: not there; run `python -m {stages[-1]}` "
            f"first, name a model, or leave {tier} out of serve.tiers"
        )
    return str(made[0])


def served_name(recipe: Recipe) -> str:
    """What clients call the model: the last part of its name."""
    return Path(recipe.model.name.removeprefix("embedded:")).name.removesuffix(".gguf")
