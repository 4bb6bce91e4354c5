"""A model is named by folder, .gguf, hub id or embedded name; what cannot be read is refused in one line."""

import json
import shutil
from pathlib import Path

import gguf
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import byte_tokenizer, tiny_llama, write_tiny
from transformers import AutoModelForCausalLM

from fastpath.config import ModelConfig
from fastpath.errors import ModelError
from fastpath.models import (
    Lineage,
    load_model,
    load_tokenizer,
    pick_device,
    pick_dtype,
    save_model,
    weights_sha256,
)
from fastpath.sources import EMBEDDED, Embedded, locate

IDS = torch.arange(3, 40)[None]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTPATH_CACHE", str(tmp_path / "cache"))


def logits(model):
    with torch.no_grad():
        return model(IDS).logits


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


def test_saved_equals_loaded_and_needs_nothing_of_ours(tmp_path):
    model = tiny_llama()
    save_model(model, byte_tokenizer(), tmp_path / "m")
    stock = AutoModelForCausalLM.from_pretrained(tmp_path / "m", dtype=torch.float32)
    assert torch.equal(logits(stock), logits(model))
    assert torch.equal(logits(load_model(tmp_path / "m", dtype="auto")), logits(model))
    assert (
        load_tokenizer(tmp_path / "m").decode(load_tokenizer(tmp_path / "m")("día 3")["input_ids"]) == "día 3"
    )


def write_gguf(path, model):
    """A tiny Llama as GGUF in float32, written by gguf's own writer."""
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    tokens = sorted(byte_tokenizer().get_vocab().items(), key=lambda pair: pair[1])
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([token for token, _ in tokens] + ["ab"])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(256)
    writer.add_eos_token_id(257)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight":
            continue  # tied
        array = tensor.numpy()
        for part, heads in (("q_proj", config.num_attention_heads), ("k_proj", config.num_key_value_heads)):
            if part in name:  # llama.cpp stores rotary halves interleaved
                array = array.reshape(heads, 2, -1, array.shape[1]).swapaxes(1, 2).reshape(array.shape)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_gguf_is_converted_once_and_computes_the_same(tmp_path):
    model = tiny_llama()
    write_gguf(tmp_path / "tiny.gguf", model)
    source = locate(str(tmp_path / "tiny.gguf"))
    converted = load_model(source.folder, dtype="auto")
    assert torch.allclose(logits(converted), logits(model), atol=1e-4)
    converted.save_pretrained(tmp_path / "again")  # a GGUF-loaded model refuses this
    assert load_tokenizer(source.folder)("xyz")["input_ids"][-3:] == byte_tokenizer()("xyz")["input_ids"]
    stamp = (source.folder / "model.safetensors").stat().st_mtime_ns
    assert locate(str(tmp_path / "tiny.gguf")) == source
    assert (source.folder / "model.safetensors").stat().st_mtime_ns == stamp
    shutil.copy(tmp_path / "tiny.gguf", tmp_path / "renamed.gguf")
    assert locate(str(tmp_path / "renamed.gguf")).folder == source.folder, "kept by content, not by name"


@pytest.mark.parametrize("keep_bytes", [0, 3, 64, 5000])
def test_cut_off_gguf_is_one_line_and_leaves_no_cache(tmp_path, keep_bytes):
    write_gguf(tmp_path / "whole.gguf", tiny_llama())
    (tmp_path / "part.gguf").write_bytes((tmp_path / "whole.gguf").read_bytes()[:keep_bytes])
    with pytest.raises(ModelError, match=r"part\.gguf: (not a GGUF file|corrupt)") as error:
        locate(str(tmp_path / "part.gguf"))
    one_line(error)
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file() and p.name != ".lock"]


def test_cut_off_safetensors_is_named(tmp_path):
    folder = write_tiny(tmp_path / "m")
    whole = (folder / "model.safetensors").read_bytes()
    for keep_bytes in (0, 7, 200, len(whole) - 1):
        (folder / "model.safetensors").write_bytes(whole[:keep_bytes])
        with pytest.raises(ModelError, match=r"model\.safetensors: corrupt or incomplete") as error:
            locate(str(folder))
        one_line(error)


def test_missing_weights_are_refused_not_made_up(tmp_path):
    folder = write_tiny(tmp_path / "m")
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.2.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"1 weights are missing, model\.layers\.2\.mlp\.up_proj\.weight"):
        load_model(folder, dtype="auto")


def test_missing_shard_is_named(tmp_path):
    tiny_llama().save_pretrained(tmp_path / "m", max_shard_size="20KB")
    shard = sorted((tmp_path / "m").glob("*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(ModelError, match=shard.name):
        locate(str(tmp_path / "m"))


def test_pickles_are_never_read(tmp_path):
    folder = write_tiny(tmp_path / "m")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"pytorch_model\.bin is a pickle, which is never read"):
        locate(str(folder))


@pytest.mark.parametrize("method", ["gptq", "awq", "bitsandbytes", "fp8"])
def test_quantised_base_is_refused_with_what_to_do(tmp_path, method):
    folder = write_tiny(tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": method, "bits": 4, "load_in_4bit": True}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=f"{method}.*name the original unquantised checkpoint") as error:
        load_model(folder, dtype="auto")
    one_line(error)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/nowhere/m", "no such folder"),
        ("./nowhere", "no such folder"),
        ("nowhere", "no such folder, and not a hub id"),
        ("nowhere.gguf", "no such file"),
        ("embedded:gpt9", "unknown; embedded models are smollm2-135m-instruct"),
    ],
)
def test_model_that_is_not_there_says_what_would_work(name, message):
    with pytest.raises(ModelError, match=message) as error:
        locate(name)
    assert one_line(error).startswith(name)


def test_folder_that_is_no_model_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"not a model folder \(no config\.json\)"):
        locate(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="no safetensors weights"):
        locate(str(tmp_path))


def test_encoder_is_refused_in_one_line(tmp_path):
    from transformers import BertConfig, BertModel

    BertModel(
        BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    ).save_pretrained(tmp_path / "t5")
    config = json.loads((tmp_path / "t5" / "config.json").read_text()) | {"model_type": "vit"}
    (tmp_path / "t5" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="cannot be loaded as a causal language model") as error:
        load_model(tmp_path / "t5", dtype="auto")
    one_line(error)


def test_embedded_package_that_is_not_installed_says_how(monkeypatch):
    monkeypatch.setitem(
        EMBEDDED, "absent", Embedded("no_such_package_here", "x.gguf", "pip install it", "a/b", "mit")
    )
    with pytest.raises(ModelError, match="its package is not installed; run pip install it"):
        locate("embedded:absent")


def test_auto_dtype_is_float32_where_bf16_is_slow(monkeypatch):
    config = ModelConfig(name="a/b", device="cpu")
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert pick_dtype(config, pick_device(config))[0] == torch.float32
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    assert pick_dtype(config, pick_device(config))[0] == torch.bfloat16
    assert pick_dtype(ModelConfig(name="a/b", dtype="float16"), torch.device("cpu"))[0] == torch.float16


@pytest.mark.parametrize("device", ["cuda:9", "quantum"])
def test_device_that_is_not_there_names_the_key(device):
    with pytest.raises(ModelError, match=r"^model\.device: ") as error:
        pick_device(ModelConfig(name="a/b", device=device))
    one_line(error)


def test_digest_follows_the_weights_and_nothing_else(tmp_path):
    a, b = write_tiny(tmp_path / "a"), write_tiny(tmp_path / "b")
    assert weights_sha256(a) == weights_sha256(b)
    (b / "README.md").write_text("card")
    assert weights_sha256(a) == weights_sha256(b)
    assert weights_sha256(a) != weights_sha256(write_tiny(tmp_path / "c", seed=1))


def test_lineage_survives_its_file(tmp_path):
    lineage = Lineage("a/b", "main", "0", "1", 6, (0, 2), "fastpath 0.1.0", ("a",))
    lineage.write(tmp_path)
    assert Lineage.read(Path(tmp_path)) == lineage


def test_lineage_of_a_folder_older_than_repairs_says_that_there_was_none(tmp_path):
    lineage = Lineage("a/b", "main", "0", "1", 6, (0, 2), "fastpath 0.1.0", ("a",), repair="linear")
    lineage.write(tmp_path)
    data = json.loads((tmp_path / "lineage.json").read_text())
    assert data.pop("repair") == "linear"
    (tmp_path / "lineage.json").write_text(json.dumps(data))
    assert Lineage.read(tmp_path).repair == "none"


def test_folder_without_a_tokenizer_says_what_it_lacks(tmp_path):
    tiny_llama().save_pretrained(tmp_path / "m")
    with pytest.raises(ModelError, match=r"no usable tokenizer: the folder holds no tokenizer.json"):
        load_tokenizer(tmp_path / "m")
