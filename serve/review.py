"""What becomes of the fast tier's answers: those it doubts are redone, calls that matter are confirmed."""

from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace

from fastpath.config_serve import ServeConfig
from serve import api
from serve.auth import Caller
from serve.errors import ApiError, DeadlinePassed
from serve.logprobs import mean_logprob
from serve.metrics import Metrics
from serve.policy import Reply, apply_policy, read_reply
from serve.routing import check_bounds
from serve.session import Session, Work
from serve.tiers import Tier
from serve.tools import reversible_names


@dataclass(frozen=True)
class Review:
    """The policies on the answer to one request."""

    asked: api.Request
    work: Work
    caller: Caller
    config: ServeConfig
    tiers: Mapping[str, Tier]
    metrics: Metrics

    def needs_whole(self, session: Session) -> bool:
        """Whether nothing of the answer may go out before all of it is known."""
        # A call of a tool is of no use before it is whole.
        return bool(self.asked.tool_names()) or self._may_escalate(session)

    async def of(self, reply: Reply, session: Session) -> Reply:
        """The reply as it may go out; `session.tier` is standard if that has answered in the end.

        Raises ApiError.
        """
        if self._may_escalate(session):
            reply = await self._escalated(reply, session)
        if session.tier.name != "fast":
            return reply

        async def confirm() -> Reply:
            return await self._ask_standard(replace(self.work, temperature=0.0, logprobs=False), session)

        asker = confirm if self.caller.may_use("standard") else None
        reversible = reversible_names(self.asked.callable_tools(), self.config.reversible_tools)
        return await apply_policy(reply, self.config.policy, reversible, asker)

    def _may_escalate(self, session: Session) -> bool:
        return session.tier.name == "fast" and self.config.escalate_below is not None

    async def _escalated(self, reply: Reply, session: Session) -> Reply:
        """The reply if its tokens were likely enough, else standard's; if that cannot be had, why not."""
        mean = mean_logprob(reply.logprobs)
        limit = self.config.escalate_below
        assert limit is not None
        if mean is not None and mean >= limit:
            return reply
        note = {"policy": "escalate", "mean_logprob": mean}
        try:
            self.caller.check_tier("standard")
            check_bounds(self.asked, self.tiers["standard"])
            again = replace(self.work, logprobs=self.asked.wants_logprobs())
            better = await self._ask_standard(again, session)
        except DeadlinePassed:
            raise
        except ApiError as error:
            return replace(reply, note={**note, "not_escalated": error.message})
        self.metrics.escalations.labels("fast").inc()
        session.tier = self.tiers["standard"]
        return replace(better, note={**note, "fast_tokens": reply.last.prompt_tokens + reply.last.new_tokens})

    async def _ask_standard(self, work: Work, first: Session) -> Reply:
        """Standard's reply, within the time that the request has left. Raises ApiError."""
        again = Session(
            work,
            [self.tiers["standard"]],
            self.metrics,
            deadline_seconds=first.remaining_seconds,
            is_admitted=True,
        )
        async with aclosing(again.pieces()) as pieces:
            return read_reply([piece async for piece in pieces], self.asked.tool_names())
