"""A finished run to export, and `python -m prune.export` in this process."""

import json
import sys
from pathlib import Path

import pytest
from families import tiny_model
from tiny import byte_tokenizer, run_stage, tiny_llama, write_recipe
from transformers import GemmaTokenizer

from prune import export
from prune.exports.proof import TEXTS

CHAT = "{% for turn in messages %}{{ turn['role'] }}: {{ turn['content'] }}\n{% endfor %}"
CARD = "---\nlicense: other\nlicense_name: tiny-licence\nlicense_link: LICENSE\nlanguage: [en]\n---\n# Tiny\n"


def write_base(folder: Path, tokenizer=None, **changes) -> Path:
    """A tiny base as it lies on the hub: card, licence, chat template, a tokenizer that others wrote."""
    tiny_llama(**changes).save_pretrained(folder)
    tokenizer = tokenizer or byte_tokenizer()
    if tokenizer.chat_template is None:
        tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    path.write_text(
        json.dumps(json.loads(path.read_text()), indent=7) + "\n\n"
    )  # not as transformers writes it
    (folder / "README.md").write_text(CARD)
    for name in ("LICENSE", "NOTICE", "USE_POLICY.md"):
        (folder / name).write_text("Do what you like.\n")
    return folder


def write_family(folder: Path, family: str, **changes) -> Path:
    """A tiny base of another model type, over bytes."""
    tiny_model(family, vocab_size=260, bos_token_id=256, eos_token_id=257, **changes).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def write_sentencepiece(folder: Path, family: str, **changes) -> Path:
    """A tiny base of a model type whose tokenizer is SentencePiece's, with its tokenizer.model."""
    import sentencepiece

    folder.mkdir()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 4), model_prefix=str(folder / "tokenizer"), model_type="bpe",
        vocab_size=400, hard_vocab_limit=False, byte_fallback=True, pad_id=0, eos_id=1, bos_id=2, unk_id=3,
        add_dummy_prefix=False, remove_extra_whitespaces=False, normalization_rule_name="identity",
        minloglevel=2,
    )  # fmt: skip
    (folder / "tokenizer.vocab").unlink()
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    tokenizer = GemmaTokenizer.from_pretrained(folder, **special, add_bos_token=True)
    tokenizer.save_pretrained(folder)
    ids = {"bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0}
    tiny_model(family, vocab_size=len(tokenizer), **ids, **changes).save_pretrained(folder)
    return folder


def write_pruned(folder: Path, base: Path, *, sections: dict | None = None, **prune) -> Path:
    """A run folder with the stage prune done: 2 blocks dropped."""
    recipe = write_recipe(
        folder / "r.yaml", model=base, out=folder / "run", prune={"criterion": "cosine", **prune},
        **(sections or {}),
    )  # fmt: skip
    assert run_stage("prune", recipe) == 0
    return folder / "run"


def export_of(*arguments: str | Path) -> int:
    """The command's exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["prune.export", *map(str, arguments)])
        return export.main()


def facts_of(capsys) -> dict:
    """The last line that was printed, as data."""
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])
