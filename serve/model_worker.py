"""A model under the continuous batching of transformers: what a worker process holds."""

import asyncio
import math
import random
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers.generation import ContinuousBatchingConfig
from transformers.generation.continuous_batching import ContinuousBatchingManager
from transformers.generation.continuous_batching.scheduler import SCHEDULER_MAPPING

from fastpath.config import ModelConfig
from fastpath.errors import ConfigError, ModelError
from fastpath.models import check_tokenizer, load_model, load_tokenizer, pick_device, pick_dtype
from fastpath.sources import locate
from serve.prompts import PromptError, prompt_tokens
from serve.sampling import sampling_config
from serve.scheduler import Policy, TierScheduler, request_name

PAGE_TOKENS = 32  # tokens of a block of the KV cache
LEAST_CACHE_TOKENS = 512
STEP_TOKENS = {"cpu": 512}  # most tokens of a step
STEP_TOKENS_GPU = 4096
PROBES = (16, 64, 256, 1024)  # tokens of a prompt, to find where more of them in a step gain nothing
GAIN = 1.3  # times the tokens per second that make a larger step worth waiting for


class BatchedModel:
    """A loaded model and tokenizer, and the manager that batches requests."""

    def __init__(self, spec: dict[str, Any]) -> None:
        """Load what `spec` (transformers_engine.spec_of) names. Raises UserError."""
        torch.set_num_threads(spec["threads"])
        model_config = ModelConfig(**spec["model"])
        trust = model_config.trust_remote_code
        source = locate(spec["name"], revision=model_config.revision, trust_remote_code=trust)
        device = pick_device(model_config)
        dtype, _ = pick_dtype(model_config, device)
        self.folder: Path = source.folder
        self.tokenizer = load_tokenizer(self.folder, trust_remote_code=trust)
        model: Any = load_model(self.folder, dtype=dtype, device=device, trust_remote_code=trust)
        check_tokenizer(model, self.tokenizer, self.folder)
        self.eos = _end_tokens(model, self.tokenizer)
        config = model.config.get_text_config()
        self.context_tokens: int = getattr(config, "max_position_embeddings", None) or 2**31
        self.cache_tokens = _cache_tokens(model, spec, self.context_tokens)
        self.policy = Policy(promote_seconds=spec["promote_seconds"], page_tokens=PAGE_TOKENS)
        make: Any = partial(TierScheduler, policy=self.policy)
        SCHEDULER_MAPPING["tiers"] = make
        settings = ContinuousBatchingConfig(
            page_size=PAGE_TOKENS,
            num_blocks=self.cache_tokens // PAGE_TOKENS,
            max_batch_tokens=STEP_TOKENS.get(device.type, STEP_TOKENS_GPU),
            max_requests_per_batch=sum(tier["running"] for tier in spec["tiers"].values()) + 1,
            allow_block_sharing=spec["prefix_cache"],
            per_request_processors=True,
            return_logprobs=True,
            scheduler_type=spec["scheduler"],
        )
        try:
            self.manager: ContinuousBatchingManager = model.init_continuous_batching(
                generation_config=sampling_config(model.generation_config),
                continuous_batching_config=settings,
            )
        except (ValueError, AttributeError) as error:
            raise ModelError(f"{source.name}: cannot be batched: {' '.join(str(error).split())}") from None
        self._step_seconds: float = spec["step_seconds"]
        self._warm = [self._warm_tokens(number, row) for number, row in enumerate(spec["warm"], 1)]

    async def start(self) -> None:
        """Start the engine's thread, and measure how many prompt tokens a step should take."""
        self.manager.start()
        await self._first_token([0] * PROBES[0])  # the first step of all loads what later ones have
        sizes = [size for size in PROBES if size < min(self.context_tokens, self.cache_tokens // 2)]
        self.policy.batch_tokens = await self._batch_tokens(sizes)
        self.policy.step_seconds = self._step_seconds
        for tokens in self._warm:
            await self._first_token(tokens)

    def _warm_tokens(self, number: int, row: dict[str, Any]) -> list[int]:
        try:
            tokens = prompt_tokens(self.tokenizer, row)
        except PromptError as error:
            raise ConfigError(f"serve.warm: request {number}: {error}") from None
        if len(tokens) >= self.context_tokens:
            raise ConfigError(f"serve.warm: request {number} has {len(tokens)} tokens, the model takes fewer")
        return tokens

    async def _batch_tokens(self, sizes: list[int]) -> int:
        """Tokens of a step beyond which more of them at once are hardly computed faster."""
        best, best_rate = 1, 0.0
        for size in sizes:
            pick = random.Random(size)
            start = time.perf_counter()
            await self._first_token([pick.randrange(len(self.tokenizer)) for _ in range(size)])
            rate = size / (time.perf_counter() - start)
            if rate < GAIN * best_rate:
                break
            best, best_rate = size, rate
        return best

    async def _first_token(self, tokens: list[int]) -> None:
        """Have the engine read a prompt and write one token. Raises ModelError."""
        done = asyncio.get_running_loop().create_future()
        name = request_name(0, f"start-{time.perf_counter()}")

        def finished(output: Any) -> None:
            if not done.done():
                done.set_result(output.error)

        self.manager.register_result_handler(name, finished)
        self.manager.add_request(tokens, request_id=name, max_new_tokens=1, eos_token_id=-1)
        if error := await done:
            raise ModelError(f"{self.folder}: the engine failed on its first request: {error}")
        self.policy.cached_tokens.pop(name, None)

    def cancel(self, name: str) -> None:
        """Stop working on a request; nothing more is heard of it."""
        self.manager.cancel_request(name)
        self.manager.output_router.result_handlers.pop(name, None)  # a cancelled request has no result
        self.policy.cached_tokens.pop(name, None)

    @property
    def is_broken(self) -> bool:
        """Whether the engine's thread has died: no request will ever be answered."""
        return not self.manager.is_running() or self.manager.background_thread_status.fatal_error is not None

    def facts(self) -> dict[str, Any]:
        """What the gateway should know."""
        return {
            "folder": str(self.folder),
            "context_tokens": min(self.context_tokens, self.cache_tokens - PAGE_TOKENS),
            "cache_tokens": self.cache_tokens,
            "batch_tokens": self.policy.batch_tokens,
        }


def _end_tokens(model: Any, tokenizer: Any) -> set[int]:
    named = model.generation_config.eos_token_id
    several = named if isinstance(named, list) else [named]
    return {token for token in (*several, tokenizer.eos_token_id) if token is not None}


def _cache_tokens(model: Any, spec: dict[str, Any], context_tokens: int) -> int:
    """Tokens of KV cache: twice what running requests can fill, within `cache_gib`. Raises ConfigError."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    token_bytes = 2 * config.num_hidden_layers * heads * width * model.dtype.itemsize
    tiers = spec["tiers"].values()
    wanted = 2 * sum(tier["running"] * min(tier["context_tokens"], context_tokens) for tier in tiers)
    affordable = math.floor(spec["cache_gib"] * 2**30 / token_bytes)
    if affordable < LEAST_CACHE_TOKENS:
        raise ConfigError(
            f"serve.cache_gib: {spec['cache_gib']} GiB hold {affordable} tokens of {spec['name']}; "
            f"{LEAST_CACHE_TOKENS * token_bytes / 2**30:.2g} is the least"
        )
    return max(LEAST_CACHE_TOKENS, min(wanted, affordable)) // PAGE_TOKENS * PAGE_TOKENS
