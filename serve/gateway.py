"""One OpenAI-compatible endpoint in front of the tiers' engines."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from fastpath.config_serve import ServeConfig
from serve import api
from serve.answers import Shape, events
from serve.auth import Caller, Keyring
from serve.bodies import read_body
from serve.engine import Piece
from serve.errors import ApiError, BadRequest
from serve.health import ready
from serve.listing import listing, one_model
from serve.metrics import Metrics
from serve.openapi import describe
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
    is_draining: bool = False

    def drain(self) -> None:
        """Take no new requests."""
        self.is_draining = True
        for tier in self.tiers.values():
            tier.queue.is_draining = True

    @property
    def is_idle(self) -> bool:
        """Whether no request runs or waits."""
        return all(not tier.queue.running and not tier.queue.depth for tier in self.tiers.values())

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
        """GET /ready: each engine has just written a token."""
        states = await ready(list(self.tiers.values()))
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

    def _caller(self, request: Request) -> Caller:
        return self.keys.caller(request.headers.get("authorization"))

    async def _answer(self, request: Request, kind: type[api.Request]) -> Response:
        tier = None
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
            session = Session(work_of(asked), [tier, *stand_ins], self.metrics, deadline_seconds=seconds)
            response = await _until_gone(request, self._respond(session, asked))
            tier = session.tier
        except ApiError as error:
            self._reject(tier, error)
            response = _problem(error)
        if tier:
            response.headers["x-service-tier-served"] = tier.name
            self.metrics.requests.labels(tier.name, response.status_code).inc()
        return response

    def _reject(self, tier: Tier | None, error: ApiError) -> None:
        if tier:
            self.metrics.rejections.labels(tier.name, error.code).inc()

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

    async def _respond(self, session: Session, asked: api.Request) -> Response:
        try:
            pieces = session.pieces()
            first = await anext(pieces)  # a request that fails at once gets its status
        except BaseException:
            session.close()
            raise
        shape = self._shape(session, asked)
        if asked.stream:
            return StreamingResponse(
                events(shape, _together(first, pieces)),
                media_type="text/event-stream",
                headers={"cache-control": "no-cache", "x-accel-buffering": "no"},
            )
        parts = [first]
        async with aclosing(pieces):
            parts += [piece async for piece in pieces]
        return JSONResponse(shape.whole("".join(part.text for part in parts), parts[-1]))

    def _shape(self, session: Session, asked: api.Request) -> Shape:
        is_chat = isinstance(asked, api.ChatRequest)
        return Shape(
            id=f"{'chatcmpl' if is_chat else 'cmpl'}-{session.id}",
            model=self.model,
            tier=session.tier.name,
            is_chat=is_chat,
            include_usage=bool(asked.stream_options and asked.stream_options.include_usage),
        )


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


async def _together(first: Piece, rest: AsyncGenerator[Piece, None]) -> AsyncGenerator[Piece, None]:
    async with aclosing(rest):
        yield first
        if not first.reason:
            async for piece in rest:
                yield piece


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
