"""GET / and what it shows: the tiers as they are now."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from serve.metrics import Metrics
from serve.tiers import Tier

PAGE = Path(__file__).parent / "page" / "index.html"
PAGE_HEADERS = {  # nothing is loaded from elsewhere, and no other page may frame this one
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


def tier_facts(tiers: Mapping[str, Tier], metrics: Metrics) -> dict[str, Any]:
    """Tier -> its queue, the times of its last answers, and the share of prompt tokens from the cache."""
    return {name: _facts(tier, metrics) for name, tier in tiers.items()}


def _facts(tier: Tier, metrics: Metrics) -> dict[str, Any]:
    recent = metrics.recent[tier.name]
    middle, late = (
        np.quantile(recent.first_token_seconds, [0.5, 0.95]) if recent.first_token_seconds else (None,) * 2
    )
    return {
        "up": tier.engine.is_up,
        "running": tier.queue.running,
        "running_limit": tier.config.running,
        "waiting": tier.queue.depth,
        "queue_limit": tier.config.queue,
        "ttft_p50_seconds": middle,
        "ttft_p95_seconds": late,
        "prefix_hit_rate": recent.cached_tokens / recent.prompt_tokens if recent.prompt_tokens else None,
        "context_tokens": tier.context_tokens,
        "answered_by": tier.shown_model,
    }
