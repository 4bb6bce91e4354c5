"""A dataset of the hub, read from a server on loopback that speaks the hub's protocol."""

import http.server
import json
import os
import subprocess
import sys
import threading
import urllib.parse
from pathlib import Path

import pytest
from datasets import Dataset

ROOT = Path(__file__).parents[1]
COMMIT = "c0ffee" + "0" * 34


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub's protocol as load_dataset speaks, over the folder of one dataset, team/set."""

    folder: Path

    def do_GET(self):
        path = urllib.parse.urlparse(self.path).path
        files = [p for p in self.folder.rglob("*") if p.is_file()]
        if path.startswith("/api/datasets/team/set/tree/"):
            under = path.partition(f"/tree/{COMMIT}")[2].strip("/")
            return self.answer(
                [self.entry(p) for p in files if str(p.relative_to(self.folder)).startswith(under)]
            )
        if path.startswith("/api/datasets/team/set"):
            siblings = [{"rfilename": str(p.relative_to(self.folder))} for p in files]
            return self.answer({"id": "team/set", "sha": COMMIT, "siblings": siblings})
        file = self.folder / path.partition("/resolve/")[2].partition("/")[2]
        if path.startswith("/datasets/team/set/resolve/") and file.is_file():
            return self.answer(file.read_bytes(), etag=file.name)
        code = "EntryNotFound" if path.startswith("/datasets/team/set/") else "RepoNotFound"
        self.answer({}, status=404, **{"X-Error-Code": code})

    do_HEAD = do_GET

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        try:
            asked = json.loads(body)["paths"]
        except ValueError:
            asked = urllib.parse.parse_qs(body)["paths"]
        found = [p for p in self.folder.rglob("*") if str(p.relative_to(self.folder)) in asked]
        self.answer([self.entry(p) for p in found])

    def entry(self, path):
        name = str(path.relative_to(self.folder))
        return {"type": "file", "path": name, "size": path.stat().st_size, "oid": name}

    def answer(self, body, *, status=200, etag="x", **headers):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for key, value in {
            "Content-Length": len(body),
            "ETag": f'"{etag}"',
            "X-Repo-Commit": COMMIT,
            **headers,
        }.items():
            self.send_header(key, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def endpoint(tmp_path):
    (tmp_path / "repo").mkdir()
    Dataset.from_list([{"prompt": f"{n}+{n}=", "completion": str(2 * n)} for n in range(9)]).to_parquet(
        tmp_path / "repo" / "train-00000-of-00001.parquet"
    )
    handler = type("Handler", (Hub,), {"folder": tmp_path / "repo"})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_hub_dataset_is_read_and_one_that_does_not_exist_is_one_line(endpoint, tmp_path):
    """In a process of its own: the hub's clients read their endpoint when they are imported."""
    code = (
        "from distill.own_data import read_rows\n"
        "rows = read_rows('team/set', split='train[:3]')\n"
        "print([row.data['prompt'] for row in rows], rows[2].where, rows[2].form)\n"
        "try:\n    read_rows('team/none')\nexcept ValueError as error:\n    print(error)\n"
    )
    env = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    env |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    first, second = done.stdout.strip().splitlines() or [done.stderr, ""]
    assert first == "['0+0=', '1+1=', '2+2='] distill.data: team/set, row 2 completion"
    assert second.startswith(
        "distill.data: team/none (subset default, split train): not a .jsonl file and not read"
    )
    assert "doesn't exist on the Hub" in second
