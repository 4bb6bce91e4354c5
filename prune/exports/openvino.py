"""Target openvino: a folder for OpenVINO, exported by optimum-intel and read by it."""

from pathlib import Path
from typing import Any

from fastpath.runs import new_folder
from prune.exports.made import Made
from prune.exports.proof import prove, run_python, trusting, version_of
from prune.exports.request import Request

INSTALL = (
    "it pins an older transformers, so it needs an environment of its own: `make openvino`, "
    "then --python .venv-openvino/bin/python"
)


def export_openvino(made: Made, out: Path, request: Request) -> dict[str, Any]:
    """Export with optimum-intel in float32 (no compression), and compare what OpenVINO predicts."""
    versions = [version_of(name, request.python, extra=INSTALL) for name in ("optimum-intel", "openvino")]
    with new_folder(out) as unfinished:
        run_python(
            request.python,
            ["-m", "optimum.commands.optimum_cli", "export", "openvino",
             "--model", str(made.folder.resolve()),
             "--task", "text-generation-with-past", "--weight-format", "fp32",
             *trusting(made.trust), str(unfinished)],
            what="optimum-cli export openvino",
        )  # fmt: skip
        proof = prove(
            made, "openvino", unfinished,
            dtype="float32", loaded_by=", ".join(versions), python=request.python,
        )  # fmt: skip
    return {"proof": proof.facts}
