"""A hub id is downloaded at its commit, from a server on loopback that speaks the hub's protocol."""

import http.server
import json
import threading
from functools import partial

import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.utils import close_session
from tiny import tiny_llama, write_tiny

from fastpath.errors import ModelError
from fastpath.models import load_model
from fastpath.sources import locate

IDS = torch.arange(3, 40)[None]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTPATH_CACHE", str(tmp_path / "cache"))


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub's protocol as a snapshot download speaks, over a folder."""

    commit = "c0ffee" + "0" * 34

    def __init__(self, folder, asked, *args):
        self.folder, self.asked = folder, asked
        super().__init__(*args)

    def do_GET(self):
        self.asked.append(self.path)
        if self.path.startswith("/api/models/team/tiny/revision/"):
            files = [
                {"rfilename": str(p.relative_to(self.folder))} for p in self.folder.rglob("*") if p.is_file()
            ]
            return self.answer(
                json.dumps({"id": "team/tiny", "sha": self.commit, "siblings": files}).encode()
            )
        if self.path.startswith(f"/api/models/team/tiny/tree/{self.commit}"):
            files = [p for p in self.folder.rglob("*") if p.is_file()]
            rows = [
                {
                    "type": "file",
                    "path": str(p.relative_to(self.folder)),
                    "size": p.stat().st_size,
                    "oid": p.name,
                }
                for p in files
            ]
            return self.answer(json.dumps(rows).encode())
        file = self.folder / self.path.partition(f"/resolve/{self.commit}/")[2]
        if "/resolve/" in self.path and file.is_file():
            return self.answer(file.read_bytes(), etag=file.name)
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def answer(self, body, etag=None):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        if etag:
            self.send_header("ETag", f'"{etag}"')
            self.send_header("X-Repo-Commit", self.commit)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub on loopback that has team/tiny, with a pickle, a script and a nested copy beside the weights."""
    folder = write_tiny(tmp_path / "repo")
    never = ("pytorch_model.bin", "modeling_tiny.py", "original/consolidated.safetensors")
    for extra in (*never, "LICENSE", "NOTICE", "USE_POLICY.md", "original/NOTICE"):
        (folder / extra).parent.mkdir(exist_ok=True)
        (folder / extra).write_bytes(b"never")
    asked: list[str] = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, folder, asked))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    template = f"http://127.0.0.1:{server.server_port}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    close_session()
    yield asked
    server.shutdown()
    close_session()


def test_hub_id_is_downloaded_at_its_commit_without_pickles_or_code(hub, tmp_path):
    source = locate("team/tiny", revision="main")
    assert source.revision == Hub.commit
    assert source.folder.name == Hub.commit
    got = {str(p.relative_to(source.folder)) for p in source.folder.rglob("*") if p.is_file()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "LICENSE", "NOTICE", "USE_POLICY.md"} <= got
    assert not any(p.endswith((".bin", ".py")) or "/" in p for p in got)
    with torch.no_grad():
        loaded, made = (
            model(IDS).logits for model in (load_model(source.folder, dtype="auto"), tiny_llama())
        )
    assert torch.equal(loaded, made)
    assert not any("bin" in path or path.endswith(".py") for path in hub)


def test_downloaded_model_is_found_again_without_a_network(hub, tmp_path, monkeypatch):
    first = locate("team/tiny")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert locate("team/tiny") == first


def test_hub_id_that_does_not_exist_is_one_line(hub):
    with pytest.raises(
        ModelError, match=r"^team/none \(revision main\): not a local folder and not available"
    ):
        locate("team/none")
