"""One OpenAI-compatible endpoint in front of the tiers' engines."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from fastpath.config_serve import ServeConfig
from serve import api
from serve.auth import Caller, Keyring
from serve.bodies import read_body
from serve.errors import ApiError, BadRequest
from serve.health import Readiness
from serve.listing import listing, one_model
from serve.metrics import Metrics
from serve.openapi import describe
from serve.page_facts import PAGE, PAGE_HEADERS, tier_facts
from serve.respond import respond
from serve.review import Review
from serve.routing import asked_tier, check_bounds, deadline_seconds
from serve.session import Session, work_of
from serve.tiers import Tier

GONE = 499  # nobody reads it: the client has hung up

log = logging.getLogger("fastpath")


@dataclass
class Gateway:
    """Everything that requests share."""

    config: ServeConfig
    model: str
    """What clients call the model."""
    tiers: dict[str, Tier]
    keys: Keyring
    gaps: dict[str, Any]
    """Tier -> what the run's evaluation measured of its model."""
    metrics: Metrics
    because: Any = None
    """Why the policy is as it is, in the words of its file."""
    readiness: Readiness = field(default_factory=Readiness)
    is_draining: bool = False
    _answering: int = 0
    """Requests whose response has not begun; between two tiers they are in no queue."""

    def drain(self) -> None:
        """Take no new requests."""
        self.is_draining = True
        for tier in self.tiers.values():
            tier.queue.is_draining = True

    @property
    def is_idle(self) -> bool:
        """Whether no request runs or waits."""
        return not self._answering and all(
            not tier.queue.running and not tier.queue.depth for tier in self.tiers.values()
        )

    async def chat(self, request: Request) -> Response:
        """POST /v1/chat/completions."""
        return await self._answer(request, api.ChatRequest)

    async def completions(self, request: Request) -> Response:
        """POST /v1/completions."""
        return await self._answer(request, api.CompletionRequest)

    async def models(self, request: Request) -> Response:
        """GET /v1/models."""
        self._caller(request)
        return JSONResponse(listing(self.model, self.tiers, self.config.default_tier, self.gaps))

    async def one_model(self, request: Request) -> Response:
        """GET /v1/models/NAME."""
        self._caller(request)
        every = listing(self.model, self.tiers, self.config.default_tier, self.gaps)
        return JSONResponse(one_model(every, request.path_params["name"]))

    async def health(self, request: Request) -> Response:
        """GET /health: this process answers."""
        return JSONResponse({"status": "draining" if self.is_draining else "ok"})

    async def ready(self, request: Request) -> Response:
        """GET /ready: each engine has written a token within the last second."""
        states = await self.readiness.states(list(self.tiers.values()))
        is_ready = all(state == "ok" for state in states.values()) and not self.is_draining
        return JSONResponse({"ready": is_ready, "tiers": states}, status_code=200 if is_ready else 503)

    async def show_metrics(self, request: Request) -> Response:
        """GET /metrics."""
        self._caller(request)
        for name, tier in self.tiers.items():
            self.metrics.running.labels(name).set(tier.queue.running)
            self.metrics.waiting.labels(name).set(tier.queue.depth)
            self.metrics.engine_up.labels(name).set(tier.engine.is_up)
            self.metrics.restarts.labels(name).set(tier.engine.stats().get("restarts", 0))
        return Response(self.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    async def page(self, request: Request) -> Response:
        """GET /: a page for people; what it shows it asks for with the visitor's key."""
        return FileResponse(PAGE, media_type="text/html", headers=PAGE_HEADERS)

    async def stats(self, request: Request) -> Response:
        """GET /stats: what the page shows."""
        self._caller(request)
        return JSONResponse({
            "model": self.model,
            "draining": self.is_draining,
            "tiers": tier_facts(self.tiers, self.metrics),
            "policy": self.config.policy_facts(),
            "because": self.because,
        })  # fmt: skip

    def _caller(self, request: Request) -> Caller:
        return self.keys.caller(request.headers.get("authorization"))

    async def _answer(self, request: Request, kind: type[api.Request]) -> Response:
        tier = None
        self._answering += 1
        try:
            caller = self._caller(request)
            caller.count()
            body = await read_body(request, self.config.body_bytes, self.config.body_seconds)
            asked = api.parse(kind, body)
            tier = asked_tier(asked, self.model, self.tiers, self.config.default_tier)
            caller.check_tier(tier.name)
            check_bounds(asked, tier)
            stand_ins = self._stand_ins(tier, asked, caller)
            seconds = deadline_seconds(request.headers)
            work = work_of(asked)
            if tier.name == "fast" and self.config.escalate_below is not None:
                work = replace(work, logprobs=True)
            session = Session(work, [tier, *stand_ins], self.metrics, deadline_seconds=seconds)
            review = Review(asked, work, caller, self.config, self.tiers, self.metrics)
            answer = respond(session, asked, self.model, review)
            response = await _until_gone(request, answer)
            tier = session.tier
            response.headers["x-service-tier-served"] = tier.name
        except ApiError as error:
            if tier:
                self.metrics.rejections.labels(tier.name, error.code).inc()
            response = _problem(error)
        finally:
            self._answering -= 1
        if tier:
            self.metrics.requests.labels(tier.name, response.status_code).inc()
        return response

    def _stand_ins(self, tier: Tier, asked: api.Request, caller: Caller) -> list[Tier]:
        """Tiers that may answer where this one cannot."""
        standard = self.tiers.get("standard")
        if not self.config.allow_fallback or standard in (None, tier):
            return []
        try:
            caller.check_tier("standard")
            check_bounds(asked, standard)
        except ApiError:
            return []
        return [standard]


def build_app(gateway: Gateway) -> FastAPI:
    """The routes, and errors in OpenAI's shape whatever happens."""
    app = FastAPI(title="fastpath", docs_url=None, redoc_url=None)  # those pages load scripts from elsewhere
    routes: Sequence[tuple[str, str, Callable[..., Any]]] = (
        ("POST", "/v1/chat/completions", gateway.chat),
        ("POST", "/v1/completions", gateway.completions),
        ("GET", "/v1/models", gateway.models),
        ("GET", "/v1/models/{name}", gateway.one_model),
        ("GET", "/health", gateway.health),
        ("GET", "/ready", gateway.ready),
        ("GET", "/metrics", gateway.show_metrics),
        ("GET", "/stats", gateway.stats),
        ("GET", "/", gateway.page),
    )
    for method, path, endpoint in routes:
        app.add_api_route(path, endpoint, methods=[method], response_model=None)
    app.add_exception_handler(ApiError, _told)
    app.add_exception_handler(HTTPException, _no_route)
    app.add_exception_handler(ClientDisconnect, lambda request, error: Response(status_code=GONE))
    app.add_exception_handler(Exception, _unforeseen)
    describe(app)
    return app


def _problem(error: ApiError) -> Response:
    return JSONResponse(error.body(), status_code=error.status, headers=error.headers())


def _told(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return _problem(error)


def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    problem = BadRequest(f"{request.method} {request.url.path[:100]}: {error.detail}")
    return JSONResponse(problem.body(), status_code=error.status_code, headers=error.headers)


def _unforeseen(request: Request, error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _problem(ApiError("the server failed on this request"))


async def _until_gone(request: Request, answer: Any) -> Response:
    """The answer, or an empty one as soon as the client hangs up; its work is cancelled then."""
    task = asyncio.ensure_future(answer)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        return Response(status_code=GONE)
    finally:
        task.cancel()
        gone.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
