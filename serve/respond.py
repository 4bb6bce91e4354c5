"""From pieces of an answer to a response: streamed as they come, or whole."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from fastapi.responses import JSONResponse, Response, StreamingResponse

from serve import api
from serve.answers import Shape, events, sse
from serve.engine import Piece
from serve.policy import Reply, read_reply
from serve.review import Review
from serve.session import Session

STREAM_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


async def respond(session: Session, asked: api.Request, model: str, review: Review) -> Response:
    """The response to a request. Raises ApiError if it fails before its first token."""
    pieces = session.pieces()
    try:
        first = await anext(pieces)  # a request that fails at once gets its status
    except BaseException:
        session.close()
        raise
    if asked.stream and not review.needs_whole(session):
        return _stream(events(_shape(session, asked, model), _together(first, pieces)))
    reply = read_reply([piece async for piece in _together(first, pieces)], asked.tool_names())
    reply = await review.of(reply, session)
    shape = _shape(session, asked, model)
    if asked.stream:
        return _stream(_at_once(shape, reply))
    return JSONResponse(shape.whole(reply))


def _stream(content: AsyncIterator[bytes]) -> Response:
    return StreamingResponse(content, media_type="text/event-stream", headers=STREAM_HEADERS)


def _shape(session: Session, asked: api.Request, model: str) -> Shape:
    is_chat = isinstance(asked, api.ChatRequest)
    return Shape(
        id=f"{'chatcmpl' if is_chat else 'cmpl'}-{session.id}",
        model=model,
        tier=session.tier.name,
        is_chat=is_chat,
        include_usage=bool(asked.stream_options and asked.stream_options.include_usage),
        logprobs=asked.wants_logprobs(),
    )


async def _together(first: Piece, rest: AsyncGenerator[Piece, None]) -> AsyncGenerator[Piece, None]:
    async with aclosing(rest):
        yield first
        if not first.reason:
            async for piece in rest:
                yield piece


async def _at_once(shape: Shape, reply: Reply) -> AsyncIterator[bytes]:
    if shape.is_chat:
        yield sse(shape.chunk("", None, role=True))
    chunk = shape.chunk(reply.text, None, calls=reply.calls, note=reply.note, tokens=reply.logprobs)
    yield sse(chunk)
    yield sse(shape.chunk("", reply.reason))
    if shape.include_usage:
        yield sse(shape.usage_chunk(reply.last))
    yield sse("[DONE]")
