"""What /metrics shows: vLLM's names, each with the tier."""

from collections import defaultdict, deque
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from serve.engine import Piece

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


RECENT = 512  # answers whose times the page tells of


@dataclass
class Recent:
    """What a page tells of one tier."""

    first_token_seconds: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))
    prompt_tokens: int = 0
    cached_tokens: int = 0


class Metrics:
    """The counters of one gateway."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.recent: defaultdict[str, Recent] = defaultdict(Recent)

        def times(name: str, text: str) -> Histogram:
            return Histogram(
                f"fastpath_{name}_seconds", text, ["tier"], buckets=SECONDS, registry=self.registry
            )

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"fastpath_{name}", text, ["tier", *labels], registry=self.registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"fastpath_{name}", text, ["tier"], registry=self.registry)

        self.first_token = times("time_to_first_token", "From arrival to the first text.")
        self.queue_time = times("request_queue_time", "From arrival to a running place.")
        self.latency = times("e2e_request_latency", "From arrival to the last text.")
        self.requests = counter("requests", "Requests by the status of their answer.", "status")
        self.rejections = counter("admission_rejections", "Requests not taken, by reason.", "reason")
        self.escalations = counter("escalations", "Answers that standard did again: too unlikely.")
        self.prompt_tokens = counter("prefix_cache_queries", "Prompt tokens looked up in the KV cache.")
        self.cached_tokens = counter("prefix_cache_hits", "Prompt tokens found in the KV cache.")
        self.new_tokens = counter("generation_tokens", "Tokens of answers.")
        self.running = gauge("num_requests_running", "Requests that an engine works on.")
        self.waiting = gauge("num_requests_waiting", "Requests that wait for a running place.")
        self.engine_up = gauge("engine_up", "1 while the tier's engine takes requests.")
        self.restarts = gauge("engine_restarts", "How often the tier's engine had to be started again.")

    def first(self, tier: str, seconds: float) -> None:
        """The first text of an answer went out."""
        self.first_token.labels(tier).observe(seconds)
        self.recent[tier].first_token_seconds.append(seconds)

    def last(self, tier: str, seconds: float, piece: Piece) -> None:
        """An answer is complete; `piece` is its last one."""
        self.latency.labels(tier).observe(seconds)
        self.prompt_tokens.labels(tier).inc(piece.prompt_tokens)
        self.cached_tokens.labels(tier).inc(piece.cached_tokens)
        self.new_tokens.labels(tier).inc(piece.new_tokens)
        self.recent[tier].prompt_tokens += piece.prompt_tokens
        self.recent[tier].cached_tokens += piece.cached_tokens

    def text(self) -> bytes:
        """The exposition format of Prometheus."""
        return generate_latest(self.registry)
