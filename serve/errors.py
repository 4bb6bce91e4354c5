"""What a client is told when a request cannot be answered: OpenAI's shape, one line, no stack trace."""

import math
from typing import Any


class ApiError(Exception):
    """An answer other than 200."""

    status = 500
    kind = "server_error"
    code = "internal_error"

    def __init__(self, message: str, *, param: str | None = None, retry_seconds: float | None = None) -> None:
        super().__init__(message)
        self.message = " ".join(message.split())
        self.param = param
        self.retry_seconds = retry_seconds

    def body(self) -> dict[str, Any]:
        """As OpenAI writes it."""
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return {"error": error}

    def headers(self) -> dict[str, str]:
        """When to come again, in the three headers that OpenAI's clients read."""
        if self.retry_seconds is None:
            return {}
        return {
            "Retry-After": str(max(1, math.ceil(self.retry_seconds))),
            "retry-after-ms": str(max(1, round(self.retry_seconds * 1000))),
            "x-should-retry": "true",
        }


class BadRequest(ApiError):
    """The request is not one that can be answered."""

    status, kind, code = 400, "invalid_request_error", "invalid_request"


class TooLong(BadRequest):
    """Prompt and answer do not fit the tier."""

    code = "context_length_exceeded"


class UnknownModel(BadRequest):
    """A model that is not served."""

    status, code = 404, "model_not_found"


class BodyTooLarge(BadRequest):
    """A request body over the limit."""

    status, code = 413, "request_too_large"


class BodyTooSlow(BadRequest):
    """A request body that does not arrive."""

    status, code = 408, "request_timeout"


class TooManyConnections(ApiError):
    """One connection more than there may be."""

    status, kind, code = 503, "overloaded_error", "too_many_connections"


class WrongKey(ApiError):
    """No API key, or one that is not known."""

    status, kind, code = 401, "authentication_error", "invalid_api_key"


class TierForbidden(ApiError):
    """A tier above the key's ceiling."""

    status, kind, code = 403, "permission_error", "tier_not_allowed"


class RateLimited(ApiError):
    """A key asks more often than it may."""

    status, kind, code = 429, "rate_limit_error", "rate_limit_exceeded"


class QueueFull(ApiError):
    """A tier's queue is full."""

    status, kind, code = 429, "rate_limit_error", "queue_full"


class EngineDown(ApiError):
    """The engine is starting again, or died while it worked on this request."""

    status, kind, code = 503, "overloaded_error", "engine_down"


class Draining(ApiError):
    """The server is stopping."""

    status, kind, code = 503, "overloaded_error", "draining"


class DeadlinePassed(ApiError):
    """The tier's or the request's own deadline passed."""

    status, kind, code = 504, "timeout_error", "deadline_exceeded"
