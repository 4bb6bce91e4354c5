"""Target openvino: a folder for OpenVINO, exported by optimum-intel and read by it."""

from pathlib import Path
from typing import Any

from fastpath.runs import new_folder
from prune.exports.made import Made
from prune.exports.proof import prove, run_python, version_of, write_reference
from prune.exports.request import Request

INSTALL = (
    "it pins an older transformers, so it needs an environment of its own: `make openvino`, "
    "then --python .venv-openvino/bin/python"
)


def export_openvino(made: Made, out: Path, request: Request) -> dict[str, Any]:
    """Export with optimum-intel in float32 (no compression), and compare what OpenVINO predicts."""
    versions = [version_of(name, request.python, extra=INSTALL) for name in ("optimum-intel", "openvino")]
    with new_folder(out) as unfinished:
        trust = ["--trust-remote-code"] if made.trust else []
        run_python(
            request.python,
            ["-m", "optimum.commands.optimum_cli", "export", "openvino",
             "--model", str(made.folder.resolve()),
             "--task", "text-generation-with-past", "--weight-format", "fp32", *trust, str(unfinished)],
            what="optimum-cli export openvino",
        )  # fmt: skip
        reference = unfinished.with_name(f".{out.name}.reference.safetensors")
        try:
            write_reference(made, reference)
            proof = prove(
                "openvino", unfinished, reference, dtype="float32", loaded_by=", ".join(versions),
                python=request.python,
            )  # fmt: skip
        finally:
            reference.unlink(missing_ok=True)
    return {"proof": proof.facts}
