"""Target gguf: a file for llama.cpp, written by its own converter and read by its own code."""

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors import safe_open

from fastpath.errors import ExportError
from fastpath.runs import new_folder, write_text
from prune.exports.hf import copy_model, copy_of_base
from prune.exports.made import Made
from prune.exports.proof import prove, run_python, version_of
from prune.exports.request import Request

INSTALL = "`make test-exports` installs it: then --python .venv-exports/bin/python"
TYPES = {"F32": ("f32", "float32"), "F16": ("f16", "float16"), "BF16": ("bf16", "bfloat16")}
"""What safetensors calls a type -> what llama.cpp does, and torch."""
UNKNOWN_TOKENIZER = "pre-tokenizer was not recognized"
CONVERT = "import runpy, sys; sys.argv[0] = 'x'; runpy.run_module('convert_hf_to_gguf', run_name='__main__')"


def export_gguf(made: Made, out: Path, request: Request) -> dict[str, Any]:
    """Convert the model in the type it is stored in, and compare what llama.cpp predicts."""
    version_of("convert-hf-to-gguf", request.python, extra=INSTALL)
    llama = version_of("xllamacpp", request.python, extra=INSTALL)
    kind, dtype = stored_type(made.folder)
    with new_folder(out) as unfinished:
        file = unfinished / f"model-{kind}.gguf"
        convert(made, file, kind, request.python)
        proof = prove(made, "gguf", file, dtype=dtype, loaded_by=llama, python=request.python)
        lines = quantize_lines(made, file.name, kind)
        write_text(unfinished / "README.md", "\n".join(["```", *lines, "```", ""]))
    for line in lines:
        print(line)
    return {"file": str(out / file.name), "proof": proof.facts, "llama_quantize": lines[-1]}


def stored_type(folder: Path) -> tuple[str, str]:
    """What llama.cpp and torch call the type that most tensors of a folder are stored in. ExportError."""
    found: Counter[str] = Counter()
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as tensors:
            found.update(tensors.get_slice(name).get_dtype() for name in tensors.keys())  # noqa: SIM118
    ((most, _),) = found.most_common(1)
    if most not in TYPES:
        raise ExportError(f"{folder}: stored as {most}; llama.cpp takes {', '.join(TYPES)}")
    return TYPES[most]


def convert(made: Made, file: Path, kind: str, python: str) -> None:
    """Run llama.cpp's converter. Raises ExportError in words.

    It reads the base's own tokenizer files: some models need tokenizer.model, which a run does not write.
    """
    with TemporaryDirectory(dir=file.parent) as name:
        folder = Path(name)
        copy_model(made, folder)
        copy_of_base(made.base().folder, folder)
        arguments = [str(folder), "--outtype", kind, "--outfile", str(file)]
        try:
            run_python(python, ["-c", CONVERT, *arguments], what="llama.cpp's converter")
        except ExportError as error:
            if UNKNOWN_TOKENIZER not in str(error):
                raise
            raise ExportError(
                f"{made.folder}: llama.cpp does not know this model's tokenizer: no GGUF file; --to hf works"
            ) from None


def quantize_lines(made: Made, name: str, kind: str) -> list[str]:
    """Shell lines: a smaller file, and the bare cut by llama.cpp itself from a GGUF file of the base."""
    drop = ",".join(map(str, made.plan.drop))
    mended = made.plan.repair is not None and made.plan.repair.applied
    less = ", without the training or repair of this model" if made.stage != "prune" or mended else ""
    return [
        f"llama-quantize {name} model-Q4_K_M.gguf Q4_K_M   # smaller; not compared",
        f"# The cut by llama.cpp itself{less}; not compared, and llama.cpp cannot load it for every model:",
        f"llama-quantize --prune-layers {drop} BASE-{kind}.gguf cut-{kind}.gguf {kind.upper()}",
    ]
