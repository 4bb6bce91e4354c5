"""Clients that open connections and never say what they want."""

import json
import socket
import time
from contextlib import contextmanager

from serving import CHAT, running, scripted_gateway, wait_for

BODY = json.dumps({**CHAT, "max_tokens": 1}).encode()
HEAD = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(BODY)}\r\n\r\n".encode()


@contextmanager
def line_to(client):
    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=10) as line:
        yield line


def drip(line, data, *, every=0.05):
    """Send byte by byte until all is sent or the other side has closed; the seconds, and what it said."""
    start, heard = time.monotonic(), b""
    line.settimeout(every)
    for byte in data:
        try:
            line.sendall(bytes([byte]))
            part = line.recv(4096)
            if not part:
                break
            heard += part
        except TimeoutError:
            continue
        except OSError:
            break
    return time.monotonic() - start, heard


def test_headers_byte_by_byte_are_cut_off_while_another_client_is_served(tmp_path):
    with running(scripted_gateway(tmp_path, header_seconds=0.5)) as client, line_to(client) as line:
        seconds, heard = drip(line, b"GET /health HTTP/1.1\r\nX: " + b"y" * 200)
        assert 0.3 < seconds < 3
        assert heard.startswith(b"HTTP/1.1 408 ") and b"no whole request within 0.5 s" in heard
        assert client.post("/v1/chat/completions", content=BODY).status_code == 200


def test_a_connection_that_says_nothing_is_closed(tmp_path):
    with running(scripted_gateway(tmp_path, header_seconds=0.3)) as client, line_to(client) as line:
        start = time.monotonic()
        assert b"408" in line.recv(4096)
        assert line.recv(4096) == b"" and time.monotonic() - start < 3


def test_the_second_request_of_a_connection_has_as_long(tmp_path):
    with running(scripted_gateway(tmp_path, header_seconds=0.4)) as client, line_to(client) as line:
        for _ in range(2):
            line.sendall(HEAD + BODY)
            heard = b""
            while not heard.endswith(b"}"):
                heard += line.recv(4096)
            assert heard.startswith(b"HTTP/1.1 200 OK")
            time.sleep(0.6)  # between two requests a connection may rest
        seconds, _ = drip(line, b"GET /health HTTP/1.1\r\nX: " + b"y" * 200)
        assert seconds < 3


def test_a_body_that_goes_on_after_the_answer_is_cut_off(tmp_path):
    with running(scripted_gateway(tmp_path, header_seconds=0.4)) as client, line_to(client) as line:
        line.sendall(b"POST /v1/nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n")
        assert b"404" in line.recv(4096)
        seconds, _ = drip(line, b"x" * 200)
        assert seconds < 3


def test_an_answer_may_take_longer_than_headers(tmp_path):
    gateway = scripted_gateway(tmp_path, header_seconds=0.2)
    gateway.tiers["standard"].engine.delay = 0.8
    with running(gateway) as client:
        assert client.post("/v1/chat/completions", content=BODY).status_code == 200


def test_one_connection_too_many_hears_503_and_the_next_is_served_again(tmp_path):
    with running(scripted_gateway(tmp_path, connections=2)) as client:
        with line_to(client) as one, line_to(client):
            with line_to(client) as third:
                heard = third.recv(4096)
                assert heard.startswith(b"HTTP/1.1 503 ") and b"Retry-After" in heard
                assert json.loads(heard.partition(b"\r\n\r\n")[2])["error"]["code"] == "too_many_connections"
            one.sendall(HEAD + BODY)
            assert b"200 OK" in one.recv(4096)

        def is_served():
            with line_to(client) as again:
                again.sendall(HEAD + BODY)
                return b"200 OK" in again.recv(4096)

        wait_for(is_served)
