"""What a tier policy saves, served: `python benchmarks/policy.py --run runs/NAME`.

Writes policy.yaml of a finished agent run (`python -m eval.route`), starts `python -m serve` with the run's
models, and has held-out tasks done through its endpoint: all by fast, all by standard, and by the policy
(default tier, gate, escalation; a failed call is asked again of the tier that the policy names). Same tasks,
prices, retries and detection for all; calls are written by the models. Prints the cost of a success of each,
and how much more the policy costs than the better of the other two, with 95 % intervals over tasks.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))  # run from a checkout, as it stands

from benchmarks.policy_client import Setting, run_tasks
from eval.agent.policies import STANDARD, Run, Tier
from eval.agent.run import tier_of
from eval.agent.spending import cost_per_success, mean_cost, per_run, saving
from eval.agent.tasks import DOMAINS, AgentTask, generate_tasks
from eval.agent.words import dollars_words
from eval.facts import Facts, read_facts
from eval.route import write_policy
from fastpath.cli import guarded
from fastpath.config_costs import AgentConfig, CostsConfig
from fastpath.env import describe_environment
from fastpath.errors import RunError
from fastpath.recipe_file import load_recipe

ROOT = Path(__file__).parents[1]
SETTINGS = ("all fast", "all standard", "policy")
STOP_SECONDS = 30.0
PATIENT = {"deadline_seconds": 600.0, "queue": 64, "context_tokens": 16384}


@contextmanager
def serving(recipe: Mapping[str, Any], folder: Path, *overrides: str) -> Iterator[tuple[str, str]]:
    """(url, model) of `python -m serve` in a process of its own. Raises RunError if it does not start."""
    path = folder / "serve.yaml"
    path.write_text(yaml.safe_dump(dict(recipe)), encoding="utf-8")
    command = [sys.executable, "-m", "serve", "--config", str(path), "serve.port=0", *overrides]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    assert server.stdout
    try:
        line = server.stdout.readline()
        if not line:
            raise RunError(f"{' '.join(command)}: ended with exit code {server.wait()}")
        facts = json.loads(line)
        yield facts["url"], facts["model"]
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(STOP_SECONDS)
        finally:
            server.kill()
            server.stdout.close()


def measure(
    recipe: Mapping[str, Any],
    policy: Mapping[str, Any],
    tasks: Sequence[AgentTask],
    tiers: Mapping[str, Tier],
    config: AgentConfig,
    costs: CostsConfig,
    *,
    seed: int,
) -> dict[str, Any]:
    """Facts of the three settings on the same tasks. `tiers`: fast and standard; `recipe`: what is served."""
    done: dict[str, list[tuple[Run | None, int]]] = {}
    tools = [tool for domain in DOMAINS.values() for tool in domain.tools.values()]
    known = {"reversible_tools": [tool.name for tool in tools if tool.reversible]}
    recipe = {**recipe, "serve": {**recipe["serve"], **known}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "policy.yaml"
        file.write_text(yaml.safe_dump(dict(policy)), encoding="utf-8")
        with serving(recipe, folder) as (url, model):
            for tier in ("fast", "standard"):
                setting = Setting(f"all {tier}", url, model, tier, tier)
                done[setting.name] = run_tasks(tasks, setting, tiers, config, seed=seed)
        with serving(recipe, folder, f"serve.policy_file={file}") as (url, model):
            setting = Setting("policy", url, model, "auto", retry_tier(policy))
            done[setting.name] = run_tasks(tasks, setting, tiers, config, seed=seed)
    return facts_of(done, costs, seed=seed)


def retry_tier(policy: Mapping[str, Any]) -> str:
    """The tier that the policy names for the attempt after a failed call."""
    rows = {row["work"]: row["tier"] for row in policy["classes"]}
    return str(rows["the next attempt after a failed call"])


def facts_of(
    done: Mapping[str, Sequence[tuple[Run | None, int]]], costs: CostsConfig, *, seed: int
) -> dict[str, Any]:
    """Cost of a success of each setting and the policy's beyond the better tier's, on runs that all ended."""
    ended = [all(run for run, _ in runs) for runs in zip(*done.values(), strict=True)]
    kept: dict[str, list[Run]] = {
        name: [run for (run, _), fine in zip(runs, ended, strict=True) if fine and run]
        for name, runs in done.items()
    }
    if len({run.task for run in kept["policy"]}) < 2:
        raise RunError("too few answers came; see what the server says")
    best = min(SETTINGS[:2], key=lambda name: mean_cost(kept[name], costs))
    return {
        "policy_minus_best_dollars": saving(kept[best], kept["policy"], costs, seed=seed),
        "best": best,
        "cost_per_success": {name: cost_per_success(runs, costs, seed=seed) for name, runs in kept.items()},
        "per_run": {name: per_run(runs, costs, seed=seed) for name, runs in kept.items()},
        "answers": {name: sum(asked for _, asked in runs) for name, runs in done.items()},
        "runs": len(kept["policy"]),
        "infrastructure_errors": ended.count(False),
    }


def recipe_of(facts: Facts, fast: str) -> dict[str, Any]:
    """A recipe that serves the run's fast model and its base."""
    ran = load_recipe(facts.folder / "config.yaml", [])
    section = {"tiers": ["fast", "standard"], "fast": {"model": fast, **PATIENT}, "standard": PATIENT}
    model = ran.model.model_dump(mode="json", exclude_none=True)
    return {"out": str(ran.out), "seed": ran.seed, "model": model, "serve": section}


def show(facts: Mapping[str, Any]) -> None:
    """A table."""
    for name in SETTINGS:
        row = facts["per_run"][name]
        shares = f"right {row['success_rate']['value']:.0%}, by itself {row['completion_rate']['value']:.0%}"
        print(f"{name:13} {dollars_words(facts['cost_per_success'][name]):26} a success; {shares}")
    print(f"policy - {facts['best']}: {dollars_words(facts['policy_minus_best_dollars'])}")


def main() -> int:
    """Print a table, then one JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="a run folder with the agent task")
    parser.add_argument("--tasks", type=int, default=16)
    parser.add_argument("--trials", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1000, help="of the held-out tasks: not the run's")
    arguments = parser.parse_args()

    def work() -> None:
        facts = read_facts(arguments.run / "eval")
        ran = load_recipe(facts.folder / "config.yaml", [])
        if arguments.seed == ran.seed:
            raise RunError(f"--seed {ran.seed} is the run's own: its tasks are not held out")
        policy = yaml.safe_load(write_policy(arguments.run).read_text(encoding="utf-8"))
        assert ran.eval and ran.eval.agent
        costs = ran.costs or CostsConfig()
        tiers = {
            tier: tier_of(of, facts.results["speed"], costs)
            for tier, of in (("fast", policy["fast_tier"]), ("standard", STANDARD))
        }
        config = ran.eval.agent.model_copy(update={"trials": arguments.trials})
        tasks = generate_tasks(split="evaluation", seed=arguments.seed, num_tasks=arguments.tasks)
        recipe = recipe_of(facts, policy["fast_model"])
        found = measure(recipe, policy, tasks, tiers, config, costs, seed=arguments.seed)
        show(found)
        print(json.dumps({"policy": policy["policy"], **found, "environment": describe_environment()}))

    return guarded(work)


if __name__ == "__main__":
    sys.exit(main())
