"""`from prune import score, plan, search_plan, cut`: the stage on a model in memory."""

from prune.api import cut, plan, score, search_plan

__all__ = ["cut", "plan", "score", "search_plan"]
