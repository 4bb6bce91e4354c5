"""Target gguf: a file for llama.cpp, written by its own converter and read by its own code."""

from pathlib import Path
from typing import Any

from fastpath.errors import ExportError
from fastpath.models import load_model
from fastpath.runs import new_folder, write_text
from prune.exports.made import Made
from prune.exports.proof import prove, run_python, version_of, write_reference
from prune.exports.request import Request

INSTALL = "pip install -c constraints.txt -e '.[gguf]'"
TYPES = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}
UNKNOWN_TOKENIZER = "pre-tokenizer was not recognized"
CONVERT = "import runpy, sys; sys.argv[0] = 'x'; runpy.run_module('convert_hf_to_gguf', run_name='__main__')"


def export_gguf(made: Made, out: Path, request: Request) -> dict[str, Any]:
    """Convert the model in the type it is stored in, and compare what llama.cpp predicts."""
    version_of("convert-hf-to-gguf", request.python, extra=INSTALL)
    llama = version_of("xllamacpp", request.python, extra=INSTALL)
    dtype = str(load_model(made.folder, dtype="auto", trust_remote_code=made.trust).dtype).removeprefix(
        "torch."
    )
    if dtype not in TYPES:
        raise ExportError(f"{made.folder}: stored as {dtype}; llama.cpp takes {', '.join(TYPES)}")
    with new_folder(out) as unfinished:
        file = unfinished / f"model-{TYPES[dtype]}.gguf"
        convert(made.folder, file, TYPES[dtype], request.python)
        reference = unfinished.with_name(".reference.safetensors")
        try:
            write_reference(made, reference)
            proof = prove("gguf", file, reference, dtype=dtype, loaded_by=llama, python=request.python)
        finally:
            reference.unlink(missing_ok=True)
        lines = quantize_lines(made, file.name, TYPES[dtype])
        write_text(unfinished / "README.md", "\n".join(["```", *lines, "```", ""]))
    for line in lines:
        print(line)
    return {"file": str(out / file.name), "proof": proof.facts, "llama_quantize": lines[-1]}


def convert(folder: Path, file: Path, kind: str, python: str) -> None:
    """Run llama.cpp's converter. Raises ExportError in words."""
    try:
        arguments = [str(folder), "--outtype", kind, "--outfile", str(file)]
        run_python(python, ["-c", CONVERT, *arguments], what="llama.cpp's converter")
    except ExportError as error:
        if UNKNOWN_TOKENIZER in str(error):
            raise ExportError(
                f"{folder}: llama.cpp does not know this model's tokenizer: no GGUF file; --to hf works"
            ) from None
        raise


def quantize_lines(made: Made, name: str, kind: str) -> list[str]:
    """Shell lines: a smaller file, and the same cut by llama.cpp itself on a GGUF file of the base."""
    drop = ",".join(map(str, made.plan.drop))
    lines = [f"llama-quantize {name} model-Q4_K_M.gguf Q4_K_M   # smaller; not compared"]
    mended = made.plan.repair is not None and made.plan.repair.applied
    if made.stage != "prune" or mended:
        lines.append("# The bare cut, without the training or repair of this model:")
    return [*lines, f"llama-quantize --prune-layers {drop} BASE-{kind}.gguf model-{kind}.gguf {kind.upper()}"]
