"""Target vllm: nothing to convert; how to serve the folder, and a script that compares it there."""

import shlex
import shutil
from pathlib import Path
from typing import Any

from fastpath.errors import ExportError
from fastpath.runs import new_folder, write_text
from prune.exports.made import Made
from prune.exports.proof import CHECK, SHARE, compare, trusting, version_of, write_reference
from prune.exports.request import Request

INSTALL = (
    "pip install vllm in an environment of its own (it pins torch and transformers), and name it by --python"
)
TYPE = "float16"
"""Whose bound is taken: its kernels on a GPU sum in another order than PyTorch on a CPU."""


def export_vllm(made: Made, out: Path, request: Request) -> dict[str, Any]:
    """Write serve.sh, compare.py and what the model predicts; compare here where vLLM is installed."""
    serve = serve_line(made)
    with new_folder(out) as unfinished:
        shutil.copyfile(CHECK, unfinished / "compare.py")
        write_reference(made, unfinished / "reference.safetensors")
        line = compare_line(made)
        write_text(
            unfinished / "serve.sh", f"#!/bin/sh\n# To compare first, in this folder: {line}\n{serve}\n"
        )
        try:
            loaded_by = version_of("vllm", request.python, extra=INSTALL)
        except ExportError as missing:
            proof: dict[str, Any] | str = f"not run: {missing}"
        else:
            reference = unfinished / "reference.safetensors"
            proof = compare(
                "vllm", made.folder, reference,
                dtype=TYPE, loaded_by=loaded_by, python=request.python, trust=made.trust,
            ).facts  # fmt: skip
    print(serve)
    return {"serve": serve, "compare": f"cd {shlex.quote(str(out))} && {line}", "proof": proof}


def compare_line(made: Made) -> str:
    """The command that compares in a folder with compare.py; exit code 1 if vLLM predicts otherwise."""
    model = str(made.folder.resolve())
    words = ["python", "compare.py", "vllm", model, "reference.safetensors", str(SHARE[TYPE])]
    return shlex.join([*words, *trusting(made.trust)])


def serve_line(made: Made) -> str:
    """The command that serves the model as it is; `python -m serve.launch` writes those of all tiers."""
    folder = str(made.folder.resolve())
    words = ["vllm", "serve", folder, "--served-model-name", "fast", "--enable-prefix-caching"]
    return shlex.join([*words, "--host", "127.0.0.1", "--port", "8001", *trusting(made.trust)])
