"""python check.py TARGET MODEL REFERENCE SHARE [--trust-remote-code]: does TARGET predict as the model?

TARGET is hf, gguf, vllm or openvino. Stands alone: nothing of fastpath can be imported here, and it runs in
whichever environment holds the target. REFERENCE is a safetensors file with texts in UTF-8 (text.0, ...), the
token ids of prompts, those texts' first (ids.0, ...), and the float32 logits (T, V) after their last T tokens
(logits.0, ...). Prints one JSON object: how far the target's log-probabilities are off, in nats, and how far
they may be (SHARE of the largest). Exit code 1 and a line if they are further off, or if the target reads a
text as other tokens.
"""

import json
import os
import sys
import urllib.request
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

# Each opens a model and returns two functions: a text's token ids; logits or log-probabilities (N, V) after
# the last N tokens of a prompt.


def hf(model, *, longest, size, trust):
    """Stock transformers."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, trust_remote_code=trust).eval()
    tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=trust)

    def predict(ids):
        with torch.no_grad():
            return loaded(torch.tensor(ids[None]), use_cache=False).logits[0].numpy()

    return lambda text: tokenizer(text)["input_ids"], predict


def gguf(model, *, longest, size, trust):
    """llama.cpp through xllamacpp: after the last token only."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.n_parallel, params.warmup = model, max(256, longest + 8), 1, False
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    server = xllamacpp.Server(params)

    def tokens(text):
        data = json.dumps({"content": text, "add_special": True, "parse_special": True}).encode()
        kind = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{server.listening_address}/tokenize", data, kind)
        with urllib.request.urlopen(request) as said:
            return json.load(said)["tokens"]

    options = {"n_predict": 1, "n_probs": size, "cache_prompt": False, "temperature": 0.0}
    # The end of a text or half a letter is answered without probabilities; these are of the logits before it.
    options["logit_bias"] = [[tokens("is")[-1], 1e6]]

    def predict(ids):
        said = server.handle_completions({"prompt": ids.tolist(), **options})
        entries = said["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        return table({entry["id"]: entry["logprob"] for entry in entries}, size)

    return tokens, predict


def vllm(model, *, longest, size, trust):
    """vLLM: after the last token only."""
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB; on a CPU it would claim most of the memory
    from vllm import LLM, SamplingParams

    engine = LLM(
        model, dtype="float32", max_logprobs=-1, max_model_len=longest + 1, enforce_eager=True,
        trust_remote_code=trust,
    )  # fmt: skip
    sampling = SamplingParams(temperature=0.0, max_tokens=1, logprobs=-1)

    def tokens(text):
        return engine.generate([{"prompt": text}], sampling)[0].prompt_token_ids

    def predict(ids):
        out = engine.generate([{"prompt_token_ids": ids.tolist()}], sampling)[0]
        return table({i: entry.logprob for i, entry in out.outputs[0].logprobs[0].items()}, size)

    return tokens, predict


def openvino(model, *, longest, size, trust):
    """OpenVINO through optimum-intel, and its own tokenizer where one was made."""
    import torch
    from optimum.intel import OVModelForCausalLM
    from transformers import AutoTokenizer

    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    loaded = OVModelForCausalLM.from_pretrained(model, ov_config=settings, trust_remote_code=trust)
    converted = Path(model) / "openvino_tokenizer.xml"
    if converted.is_file():
        import openvino
        import openvino_tokenizers  # noqa: F401  # its operations

        compiled = openvino.compile_model(str(converted))
        tokens = lambda text: compiled([text])["input_ids"][0].tolist()  # noqa: E731
    else:
        tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=trust)
        tokens = lambda text: tokenizer(text)["input_ids"]  # noqa: E731

    def predict(ids):
        ids_1T = torch.tensor(ids[None])
        return loaded(input_ids=ids_1T, attention_mask=torch.ones_like(ids_1T)).logits[0].numpy()

    return tokens, predict


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
    for predicted, logits in zip(predictions, references, strict=True):
        last = min(len(predicted), len(logits))
        got, want = log_softmax(predicted[-last:]), log_softmax(logits[-last:])
        worst.append(np.abs(got - want).max())
        largest.append(np.abs(want).max())
        positions += last
        same += int((got.argmax(-1) == want.argmax(-1)).sum())
    difference = None if np.isnan(worst).any() else float(max(worst))
    return {
        "prompts": len(references), "positions": positions, "same_top": same,
        "largest_difference": difference, "largest": float(max(largest)),
    }  # fmt: skip


def fault_of(facts, read):
    """What is wrong, in words; "" if nothing is. `read`: {text: (its tokens by the target, by the model)}."""
    for text, (theirs, ours) in read.items():
        if theirs != ours:
            return f"reads {text!r} as tokens {theirs[:12]}, the model as {ours[:12]}"
    worst, allowed = facts["largest_difference"], facts["allowed"]
    if worst is None:
        return "did not give all log-probabilities"
    return "" if worst <= allowed else f"is off by {worst:.3g} nats (allowed {allowed:.3g})"


def main():
    """Compare, print, judge."""
    for name in ("fastpath", "prune", "distill", "eval", "serve"):
        sys.modules[name] = None  # type: ignore[assignment]  # importing it raises
    target, model, reference, share, *trust = sys.argv[1:]
    facts, read = asked(target, model, load_file(reference), trust=bool(trust))  # and it is closed again
    facts["allowed"] = float(share) * facts["largest"]
    print(json.dumps(facts), flush=True)
    if fault := fault_of(facts, read):
        sys.exit(f"{model}: {fault}")


def asked(target, model, tensors, *, trust):
    """How far the target is off, and {text: (its tokens by the target, by the model)}."""
    ids, logits = (numbered(tensors, name) for name in ("ids", "logits"))
    texts = [bytes(text).decode() for text in numbered(tensors, "text")]
    longest, size = max(map(len, ids)), logits[0].shape[-1]
    tokens, predict = TARGETS[target](model, longest=longest, size=size, trust=trust)
    read = {text: (list(tokens(text)), of.tolist()) for text, of in zip(texts, ids, strict=False)}
    return compared([predict(of)[-len(want) :] for of, want in zip(ids, logits, strict=True)], logits), read


def numbered(tensors, name):
    """NAME.0, NAME.1, ... as a list."""
    count = sum(key.startswith(f"{name}.") for key in tensors)
    return [tensors[f"{name}.{i}"] for i in range(count)]


if __name__ == "__main__":
    main()
