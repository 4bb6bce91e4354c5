"""The recipe's section `serve:`: tiers behind one endpoint. No torch in here."""

import ipaddress
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from fastpath.section import Section

TierName = Literal["fast", "standard", "deep"]
TIERS: tuple[TierName, ...] = ("fast", "standard", "deep")
"""Cheapest first: a key's ceiling allows its tier and those before it."""

POLICY_KEYS = ("default_tier", "policy", "reversible_tools", "escalate_below")
"""What a policy file may say in the place of the recipe."""

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class TierConfig(Section):
    """One tier: which model answers, and how much it may take on."""

    model: str = "base"
    """base (the recipe's model), prune or distill (of this run), or any model name or folder."""
    url: str | None = None
    """OpenAI-compatible URL (http://.../v1) of a server that answers; `model` is its name there."""
    priority: Literal["none", "low_first", "high_first"] = "none"
    """Number that tells the server at `url` the tier: low_first for vLLM with --scheduling-policy priority,
    high_first for SGLang."""
    running: Count = 8
    """Requests that the engine works on at once."""
    queue: Annotated[int, Field(ge=0)] = 32
    """Requests that wait for one of these places; one more is refused with 429."""
    queue_tokens: Count = 100_000
    """Tokens that may wait, estimated (4 bytes of prompt a token, and the answer): more are refused too."""
    deadline_seconds: Seconds = 120.0
    """From a request's arrival to its last token; then 504, and the engine stops working on it."""
    context_tokens: Count = 8192
    """Prompt and answer together; a model or KV cache that holds less limits it further."""
    max_new_tokens: Count = 2048
    """Longest answer that a request may ask for."""
    default_new_tokens: Count = 512
    """Longest answer of a request that says nothing."""


class FastConfig(TierConfig):
    """The pruned or distilled model, in an engine of its own."""

    model: str = "auto"
    """auto (OUT/distill/model, else OUT/prune/model), prune, distill, or any model name or folder."""
    queue: Annotated[int, Field(ge=0)] = 16
    """Requests that wait for one of these places; one more is refused with 429."""
    deadline_seconds: Seconds = 30.0
    """From a request's arrival to its last token; then 504, and the engine stops working on it."""
    context_tokens: Count = 4096
    """Prompt and answer together; a model or KV cache that holds less limits it further."""
    max_new_tokens: Count = 1024
    """Longest answer that a request may ask for."""


class DeepConfig(TierConfig):
    """The original with larger budgets; shares the engine of standard and yields to it."""

    running: Count = 2
    """Requests that the engine works on at once."""
    queue: Annotated[int, Field(ge=0)] = 16
    """Requests that wait for one of these places; one more is refused with 429."""
    queue_tokens: Count = 1_000_000
    """Tokens that may wait, estimated (4 bytes of prompt a token, and the answer): more are refused too."""
    deadline_seconds: Seconds = 900.0
    """From a request's arrival to its last token; then 504, and the engine stops working on it."""
    context_tokens: Count = 32768
    """Prompt and answer together; a model or KV cache that holds less limits it further."""
    max_new_tokens: Count = 8192
    """Longest answer that a request may ask for."""
    default_new_tokens: Count = 2048
    """Longest answer of a request that says nothing."""


class ServeConfig(Section):
    """Serve the tiers behind one OpenAI-compatible endpoint."""

    host: str = "127.0.0.1"
    """Address to listen on; one that others can reach needs keys."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """0 takes any free port."""
    keys: str | None = None
    """YAML file of API keys: a list of {key, name, tier, requests_per_minute}. $FASTPATH_API_KEYS holds more,
    with commas between."""
    default_tier: TierName = "standard"
    """Tier of requests that name none, and of auto and default."""
    allow_fallback: bool = False
    """Let standard answer when fast or deep is full or down; the answer says so."""
    tiers: Annotated[tuple[TierName, ...], Field(min_length=1)] = TIERS
    """The tiers that are served."""
    fast: FastConfig = FastConfig()
    """The tier fast."""
    standard: TierConfig = TierConfig()
    """The tier standard."""
    deep: DeepConfig = DeepConfig()
    """The tier deep."""
    policy: Literal["off", "annotate", "gate"] = "off"
    """Calls by the fast tier of tools not known to be reversible: annotate marks them as proposed, gate asks
    standard too and lets through only what it calls as well."""
    reversible_tools: tuple[str, ...] = ()
    """Names of tools whose calls can be taken back; so can those that a request marks with readOnlyHint."""
    escalate_below: Annotated[float, Field(le=0, allow_inf_nan=False)] | None = None
    """Nats: a fast answer whose mean token log-probability is below this is redone by standard; streamed ones
    then come at once, in the end."""
    policy_file: str | None = None
    """policy.yaml that `python -m eval.route` wrote: its section `serve:` gives default_tier, policy,
    reversible_tools and escalate_below, its fast_model that of fast, where the recipe is silent."""
    warm: str | None = None
    """JSON lines of requests (messages, tools or prompt) that are computed when an engine here (none at a
    url) starts: requests that begin alike find them in the KV cache."""
    body_bytes: Count = 4 * 2**20
    """Largest request body."""
    body_seconds: Seconds = 10.0
    """A request body that takes longer to arrive is refused."""
    header_seconds: Seconds = 10.0
    """A connection whose request, up to its body, takes longer to arrive is closed."""
    connections: Count = 512
    """Connections at once; one more is refused with 503."""
    cache_gib: Annotated[float, Field(gt=0)] = 2.0
    """Memory of the KV cache of each engine; what is not in use keeps prefixes."""
    prefix_cache: bool = True
    """Prompts that begin alike share their KV cache."""
    step_seconds: Seconds = 0.1
    """Length of an engine's step that a long prompt is cut for: how long a request of a higher tier waits. At
    least three times what a step costs that computes next to nothing, so that prompts are mostly read."""
    promote_seconds: Seconds = 30.0
    """A waiting prompt counts as one tier higher each time it has waited so long."""
    drain_seconds: Seconds = 60.0
    """After SIGTERM running requests have so long to finish."""

    @field_validator("policy", mode="before")
    @classmethod
    def _off_is_a_word(cls, given: Any) -> Any:
        return "off" if given is False else given  # as YAML reads it without quotes

    @model_validator(mode="after")
    def _tiers_fit(self) -> Self:
        if self.default_tier not in self.tiers:
            raise ValueError(f"default_tier: {self.default_tier!r} is not among the tiers {list(self.tiers)}")
        if self.policy == "gate" and "standard" not in self.tiers:
            raise ValueError("policy: gate needs the tier standard, which confirms")
        if self.escalate_below is not None and not {"fast", "standard"} <= set(self.tiers):
            raise ValueError("escalate_below: needs the tiers fast and standard, which answers again")
        for name, tier in self.served().items():
            if tier.url is None and tier.priority != "none":
                raise ValueError(f"{name}.priority: is for a server at a url")
            if tier.url is not None and tier.model in ("auto", "base", "prune", "distill"):
                raise ValueError(f"{name}.model: name the model as {tier.url} calls it")
            if tier.default_new_tokens > tier.max_new_tokens:
                raise ValueError(f"{name}.default_new_tokens: exceeds max_new_tokens {tier.max_new_tokens}")
            if tier.max_new_tokens >= tier.context_tokens:
                raise ValueError(f"{name}.max_new_tokens: leaves no prompt in {tier.context_tokens} tokens")
        return self

    def served(self) -> dict[TierName, TierConfig]:
        """The settings of the tiers that are served, cheapest first."""
        return {name: getattr(self, name) for name in TIERS if name in self.tiers}

    def policy_facts(self) -> dict[str, Any]:
        """The keys that a policy file may give."""
        return self.model_dump(mode="json", include=set(POLICY_KEYS))

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the address."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"
