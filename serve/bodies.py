"""Reading a request's body, which may be huge or never end."""

import asyncio

from starlette.requests import Request

from serve.errors import BodyTooLarge, BodyTooSlow


async def read_body(request: Request, limit_bytes: int, limit_seconds: float) -> bytes:
    """The whole body. Raises BodyTooLarge, BodyTooSlow, or starlette's ClientDisconnect."""
    too_large = BodyTooLarge(f"the body has more than {limit_bytes} bytes")
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit_bytes:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(limit_seconds):
            async for part in request.stream():
                body += part
                if len(body) > limit_bytes:
                    raise too_large
    except TimeoutError:
        raise BodyTooSlow(f"the body did not arrive within {limit_seconds:g} s") from None
    return bytes(body)
