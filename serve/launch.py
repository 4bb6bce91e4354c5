"""python -m serve.launch --config RECIPE --target vllm|ray|compose: the tiers on GPU engines, written out.

Writes OUT/serve/TARGET: how to start the engines, and serve.yaml for the gateway in front of them. Flags are
those of vLLM 0.32 and LLMConfig of Ray Serve 2.60. Nothing is started.
"""

import argparse
import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fastpath.cli import guarded
from fastpath.config import Recipe
from fastpath.config_serve import ServeConfig, TierName
from fastpath.errors import ConfigError
from fastpath.recipe_file import load_recipe
from fastpath.runs import write_text
from serve.drafted import speculative
from serve.tiers import model_of

FIRST_PORT = 8001
CHUNK_TOKENS = 512  # of one prompt in a step of vLLM: what keeps short prompts from waiting behind long ones
IMAGE = "vllm/vllm-openai:v0.32.0"
TOOLS_NOTE = "# Calls of tools need --enable-auto-tool-choice and the model's --tool-call-parser."


@dataclass(frozen=True)
class Deployment:
    """One engine and the tiers that it answers."""

    tiers: tuple[TierName, ...]
    model: str
    """Hub id or absolute folder."""
    port: int
    settings: dict[str, Any]
    """vLLM's engine arguments."""
    queue: int
    """Requests that may wait in it."""

    @property
    def name(self) -> str:
        """What the engine calls its model."""
        return "-".join(self.tiers)


def deployments(recipe: Recipe, config: ServeConfig, *, shared: bool, draft: str) -> list[Deployment]:
    """The engines: fast alone; standard and deep in one if `shared`. Raises ConfigError.

    `draft`: a model that guesses tokens for standard and deep, which check them (speculative decoding):
    "fast" is that tier's own, "" none.
    """
    served = config.served()
    models = {name: gpu_model(name, tier.model, recipe) for name, tier in served.items()}
    groups: dict[tuple[str, str], list[TierName]] = {}
    for name in served:
        apart = name if name == "fast" or not shared else ""
        groups.setdefault((models[name], apart), []).append(name)
    if draft == "fast" and "fast" not in served:
        raise ConfigError("--draft: the draft model is that of the tier fast, which is not served")
    drafting = {} if not draft else speculative(models["fast"] if draft == "fast" else draft)
    made = []
    for port, ((model, _), names) in enumerate(groups.items(), FIRST_PORT):
        tiers = [served[name] for name in names]
        settings: dict[str, Any] = {
            "max_model_len": max(tier.context_tokens for tier in tiers),
            "max_num_seqs": sum(tier.running for tier in tiers),
            "long_prefill_token_threshold": CHUNK_TOKENS,
            "enable_prefix_caching": config.prefix_cache,
            "scheduling_policy": "priority" if len(names) > 1 else "fcfs",
        }
        if drafting and "fast" not in names:
            settings["speculative_config"] = drafting
        made.append(Deployment(tuple(names), model, port, settings, sum(tier.queue for tier in tiers)))
    return made


def gpu_model(tier: str, asked: str, recipe: Recipe) -> str:
    """What vLLM should load for a tier. Raises ConfigError."""
    model = model_of(tier, asked, recipe)
    if model.startswith("embedded:") or model.endswith(".gguf"):
        raise ConfigError(f"serve.{tier}.model: {model} is no hub id or folder, which vLLM loads")
    return str(Path(model).resolve()) if Path(model).is_dir() else model


def vllm_arguments(engine: Deployment) -> list[str]:
    """`vllm serve` as arguments."""
    flags = ["vllm", "serve", engine.model, "--served-model-name", engine.name, "--port", str(engine.port)]
    flags += ["--max-num-queued-reqs", str(engine.queue), "--enable-prompt-tokens-details"]
    for key, value in engine.settings.items():
        flag = f"--{key.replace('_', '-')}"
        if isinstance(value, bool):
            flags.append(flag if value else f"--no-{flag[2:]}")
        else:
            flags += [flag, json.dumps(value) if isinstance(value, dict) else str(value)]
    return flags


def vllm_files(engines: list[Deployment]) -> dict[str, str]:
    """A script that starts every engine and ends them together."""
    lines = [
        "#!/bin/sh",
        "# One engine a line; give each its GPU with CUDA_VISIBLE_DEVICES.",
        TOOLS_NOTE,
        "trap 'kill 0' EXIT",
    ]
    local = ["--host", "127.0.0.1"]  # engines ask for no key
    lines += [f"{shlex.join([*vllm_arguments(engine), *local])} &" for engine in engines]
    return {"engines.sh": "\n".join([*lines, "wait", ""])}


def compose_files(engines: list[Deployment]) -> dict[str, str]:
    """A service an engine, each with a GPU, reachable from this machine only."""
    services = {}
    for number, engine in enumerate(engines):
        gpu = {"driver": "nvidia", "device_ids": [str(number)], "capabilities": ["gpu"]}
        mounted = {engine.model, *_draft(engine)} if Path(engine.model).is_absolute() else _draft(engine)
        services[engine.name] = {
            "image": IMAGE,
            "command": vllm_arguments(engine)[2:],  # the image's entry point is `vllm serve`
            "ports": [f"127.0.0.1:{engine.port}:{engine.port}"],
            "volumes": [f"{folder}:{folder}:ro" for folder in sorted(mounted)],
            "ipc": "host",
            "restart": "unless-stopped",
            "deploy": {"resources": {"reservations": {"devices": [gpu]}}},
        }
    text = yaml.safe_dump({"services": services}, sort_keys=False)
    return {"compose.yaml": f"{TOOLS_NOTE}\n{text}"}


def _draft(engine: Deployment) -> set[str]:
    model = engine.settings.get("speculative_config", {}).get("model", "")
    return {model} if Path(model).is_absolute() else set()


def ray_files(engines: list[Deployment]) -> dict[str, str]:
    """A Ray Serve application with a deployment a tier, each with a queue of its own."""
    configs = [
        {
            "model_loading_config": {"model_id": engine.name, "model_source": engine.model},
            "deployment_config": {
                "max_ongoing_requests": engine.settings["max_num_seqs"],
                "max_queued_requests": engine.queue,
                "autoscaling_config": {"min_replicas": 1, "max_replicas": 4},
            },
            "engine_kwargs": engine.settings,
        }
        for engine in engines
    ]
    application = {
        "name": "tiers",
        "route_prefix": "/",
        "import_path": "ray.serve.llm:build_openai_app",
        "args": {"llm_configs": configs},
    }
    options = {"host": "127.0.0.1", "port": FIRST_PORT}
    return {
        "ray.yaml": yaml.safe_dump({"http_options": options, "applications": [application]}, sort_keys=False)
    }


TARGETS = {"vllm": vllm_files, "compose": compose_files, "ray": ray_files}
START = {
    "vllm": "sh {}/engines.sh",
    "compose": "docker compose -f {}/compose.yaml up",
    "ray": "serve run {}/ray.yaml",
}


def gateway_recipe(recipe: Recipe, config: ServeConfig, engines: list[Deployment], target: str) -> str:
    """The recipe with every tier answered by its engine."""
    data = recipe.model_dump(mode="json", exclude_none=True, include={"out", "seed", "model"})
    # What the recipe leaves open stays open: a policy file may say it.
    data["serve"] = config.model_dump(mode="json", exclude_unset=True)
    for engine in engines:
        port = FIRST_PORT if target == "ray" else engine.port
        order = "low_first" if engine.settings["scheduling_policy"] == "priority" else "none"
        for name in engine.tiers:
            data["serve"].setdefault(name, {}).update({
                "url": f"http://127.0.0.1:{port}/v1", "model": engine.name, "priority": order,
            })  # fmt: skip
    return yaml.safe_dump(data, sort_keys=False)


def launch(recipe: Recipe, target: str, *, draft: str) -> Path:
    """Write the files; the folder. Raises ConfigError."""
    config = recipe.serve or ServeConfig()
    engines = deployments(recipe, config, shared=target != "ray", draft=draft)
    folder = recipe.out / "serve" / target
    folder.mkdir(parents=True, exist_ok=True)
    files = {**TARGETS[target](engines), "serve.yaml": gateway_recipe(recipe, config, engines, target)}
    for name, text in files.items():
        write_text(folder / name, text)
    return folder


def main() -> int:
    """Write the files and say how to start them; the last line is JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m serve.launch", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--config", required=True, help="recipe file")
    parser.add_argument("--target", required=True, choices=sorted(TARGETS))
    drafts = parser.add_mutually_exclusive_group()
    drafts.add_argument("--draft", action="store_true", help="the fast model drafts for the others")
    drafts.add_argument(
        "--draft-model", default="", help="folder of one: `python -m prune.export --to draft`"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    arguments = parser.parse_intermixed_args()

    def work() -> None:
        recipe = load_recipe(arguments.config, arguments.overrides)
        if arguments.draft_model and not (Path(arguments.draft_model) / "config.json").is_file():
            raise ConfigError(f"--draft-model {arguments.draft_model}: no model there (config.json)")
        given = str(Path(arguments.draft_model).resolve()) if arguments.draft_model else ""
        folder = launch(recipe, arguments.target, draft="fast" if arguments.draft else given)
        print(f"engines: {START[arguments.target].format(folder)}")
        print(f"gateway: python -m serve --config {folder}/serve.yaml")
        print(json.dumps({"stage": "serve.launch", "path": str(folder)}))

    return guarded(work)


if __name__ == "__main__":
    sys.exit(main())
