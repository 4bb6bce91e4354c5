"""Connections: so many at once, and none that takes forever to say what it wants."""

import asyncio
import json
from functools import partial
from http import HTTPStatus
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from fastpath.config_serve import ServeConfig
from serve.errors import ApiError, BodyTooSlow, TooManyConnections

KEEP_ALIVE_SECONDS = 30


class PatientProtocol(H11Protocol):
    """uvicorn's, which waits for headers as long as a client likes; this one so many seconds.

    While a request is answered, the gateway has its own limits: of the body's time, of the answer's.
    """

    def __init__(self, *args: Any, header_seconds: float, most: int, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._header_seconds = header_seconds
        self._most = most
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """As uvicorn's; one too many hears 503."""
        super().connection_made(transport)
        if len(self.connections) > self._most:
            self._refuse(TooManyConnections(f"{self._most} connections are open", retry_seconds=1.0))
        else:
            self._watch()

    def data_received(self, data: bytes) -> None:
        """As uvicorn's; time counts while no request is being answered."""
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._watch()
        else:
            self._unwatch()

    def connection_lost(self, exc: Exception | None) -> None:
        """As uvicorn's."""
        self._unwatch()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(self._header_seconds, self._too_slow)

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        if self.cycle is None:
            self._refuse(BodyTooSlow(f"no whole request within {self._header_seconds:g} s"))
        else:  # what comes after an answer may be the rest of a body: nobody waits for a word
            self.transport.close()

    def _refuse(self, error: ApiError) -> None:
        body = json.dumps(error.body()).encode()
        told = {
            "content-type": "application/json",
            "content-length": str(len(body)),
            "connection": "close",
            **error.headers(),
        }
        head = [f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}"]
        head += [f"{name}: {value}" for name, value in told.items()]
        self.transport.write("\r\n".join([*head, "", ""]).encode() + body)
        self.transport.close()


def server_settings(app: Any, config: ServeConfig) -> uvicorn.Config:
    """How uvicorn serves the app."""
    protocol: Any = partial(PatientProtocol, header_seconds=config.header_seconds, most=config.connections)
    return uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        log_level="warning",
        access_log=False,  # prompts and keys stay out of logs
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=1,
    )
