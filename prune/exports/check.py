"""python check.py hf|gguf|vllm|openvino MODEL REFERENCE: what does the target's own code predict with MODEL?

Stands alone: nothing of fastpath can be imported here, and it runs in whichever environment holds the target.
REFERENCE is a safetensors file with the token ids of prompts (ids.0, ...) and the float32 logits (T, V) after
each of their tokens (logits.0, ...). Prints one JSON object: how far the target's log-probabilities are off.
"""

import json
import sys

import numpy as np
from safetensors.numpy import load_file


def hf(model, prompts, size):
    """Stock transformers: after every token."""
    import torch
    from transformers import AutoModelForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    for ids in prompts:
        with torch.no_grad():
            yield log_softmax(loaded(torch.tensor(ids[None])).logits[0].numpy())


def gguf(model, prompts, size):
    """llama.cpp through xllamacpp: after the last token."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.n_parallel, params.warmup = model, 256, 1, False
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    server = xllamacpp.Server(params)
    options = {"n_predict": 1, "n_probs": size, "cache_prompt": False, "temperature": 0.0}
    for ids in prompts:
        said = server.handle_completions({"prompt": ids.tolist(), **options})
        entries = said["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        yield table({entry["id"]: entry["logprob"] for entry in entries}, size)


def vllm(model, prompts, size):
    """vLLM: after the last token."""
    from vllm import LLM, SamplingParams

    engine = LLM(model, dtype="float32", max_logprobs=-1, max_model_len=256, enforce_eager=True)
    sampling = SamplingParams(temperature=0.0, max_tokens=1, logprobs=-1)
    for out in engine.generate([{"prompt_token_ids": ids.tolist()} for ids in prompts], sampling):
        yield table({i: entry.logprob for i, entry in out.outputs[0].logprobs[0].items()}, size)


def openvino(model, prompts, size):
    """OpenVINO through optimum-intel: after every token."""
    import torch
    from optimum.intel import OVModelForCausalLM

    loaded = OVModelForCausalLM.from_pretrained(model, ov_config={"INFERENCE_PRECISION_HINT": "f32"})
    for ids in prompts:
        ids_1T = torch.tensor(ids[None])
        yield log_softmax(loaded(input_ids=ids_1T, attention_mask=torch.ones_like(ids_1T)).logits[0].numpy())


TARGETS = {"hf": hf, "gguf": gguf, "vllm": vllm, "openvino": openvino}


def log_softmax(logits):
    """float64 log-probabilities (N, V) of logits."""
    logits = logits.astype(np.float64)
    top = logits.max(-1, keepdims=True)
    return logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))


def table(of, size):
    """(1, V) log-probabilities of {token: log-probability}; NaN where a token is missing."""
    row = np.full((1, size), np.nan)
    row[0, list(of)] = list(of.values())
    return row


def compared(predictions, references):
    """How far predictions are from logits, over all tokens of the vocabulary; a NaN is no proof."""
    worst, largest, positions, same = [], [], 0, 0
    for got, logits in zip(predictions, references, strict=True):
        want = log_softmax(logits[-len(got) :])
        worst.append(np.abs(got - want).max())
        largest.append(np.abs(want).max())
        positions += len(got)
        same += int((got.argmax(-1) == want.argmax(-1)).sum())
    difference = None if np.isnan(worst).any() else float(max(worst))
    return {
        "prompts": len(references), "positions": positions, "same_top": same,
        "largest_difference": difference, "largest": float(max(largest)),
    }  # fmt: skip


def main():
    """Compare and print."""
    for name in ("fastpath", "prune", "distill", "eval", "serve"):
        sys.modules[name] = None  # type: ignore[assignment]  # importing it raises
    target, model, reference = sys.argv[1:]
    tensors = load_file(reference)
    numbers = range(sum(name.startswith("ids.") for name in tensors))
    ids, logits = ([tensors[f"{name}.{i}"] for i in numbers] for name in ("ids", "logits"))
    print(json.dumps(compared(TARGETS[target](model, ids, logits[0].shape[-1]), logits)))


if __name__ == "__main__":
    main()
