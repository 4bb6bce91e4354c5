"""The models of an evaluation: found before any work, the same on a rerun, loaded when needed."""

from pathlib import Path
from typing import Any

import torch
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig

from eval.passes import check_compiles
from fastpath.config import EvalConfig, Recipe, SpeedConfig
from fastpath.errors import ConfigError, ModelError, RunError
from fastpath.models import Lineage, check_tokenizer, load_model, load_tokenizer, weights_sha256
from fastpath.runs import EXPORTING, exported, step
from fastpath.sources import Source, locate

BASE = "base"


def find_models(recipe: Recipe, config: EvalConfig) -> tuple[dict[str, Source], dict[str, str]]:
    """Label -> weights of the base and every variant, and their digests.

    UserError names what is missing, before any work.
    """
    trust = recipe.model.trust_remote_code
    sources = {BASE: locate(recipe.model.name, revision=recipe.model.revision, trust_remote_code=trust)}
    digests = {BASE: weights_sha256(sources[BASE].folder)}
    for label, where in config.variants.items():
        if where in EXPORTING:
            folder = exported(recipe, where)
            sources[label] = locate(str(folder.absolute()))
            if Lineage.read(folder).base_weights_sha256 != digests[BASE]:
                raise RunError(
                    f"{folder.parent}: was cut from other weights than {recipe.model.name} has; "
                    "choose another out="
                )
        else:
            sources[label] = locate(where, trust_remote_code=trust)
        digests[label] = weights_sha256(sources[label].folder)
    return sources, digests


def check_same_weights(out: Path, now: dict[str, str]) -> None:
    """Outcomes belong to weights: refuse to go on where a folder holds other ones since."""
    for label, digest in step(out, "weights.json", lambda: now).items():
        if now.get(label) != digest:
            raise RunError(
                f"{out}: holds results of other weights of {label!r}; choose another out= or delete it"
            )


class Zoo:
    """The models of a run, each loaded when it is first asked for."""

    def __init__(
        self, sources: dict[str, Source], *, dtype: torch.dtype, device: torch.device, trust: bool
    ) -> None:
        self.sources, self.dtype, self._device, self.trust = sources, dtype, device, trust
        self._loaded: dict[str, tuple[Any, Any]] = {}

    def check_vocabularies(self) -> None:
        """Raise ModelError if a variant reads other tokens than the base: likelihoods would not compare."""
        vocabularies = {label: self._tokenizer(label).get_vocab() for label in self.sources}
        for label, vocabulary in vocabularies.items():
            if vocabulary != vocabularies[BASE]:
                raise ModelError(
                    f"{self.sources[label].folder}: {label} has another vocabulary than the base "
                    f"({len(vocabulary)} and {len(vocabularies[BASE])} tokens): a gap would mean nothing"
                )

    def check_speed(self, speed: SpeedConfig) -> None:
        """Raise ConfigError if speed cannot be measured: a context too short, a compiler missing."""
        need = max(speed.prompt_tokens) + speed.new_tokens
        for label, source in self.sources.items():
            config = AutoConfig.from_pretrained(source.folder, trust_remote_code=self.trust)
            limit = getattr(config.get_text_config(decoder=True), "max_position_embeddings", None)
            if isinstance(limit, int) and 0 < limit < need:
                raise ConfigError(f"eval.speed: {need} tokens are more than the {limit} positions of {label}")
            # None: a class of the repository's own
            model_class: Any = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
            if speed.compile and model_class is not None:
                try:
                    check_compiles(model_class, self._device)
                except ValueError as error:
                    raise ConfigError(f"eval.speed.compile: {error}") from None

    def _tokenizer(self, label: str) -> Any:
        return load_tokenizer(self.sources[label].folder, trust_remote_code=self.trust)

    def get(self, label: str) -> tuple[Any, Any]:
        """(model, tokenizer)."""
        if label not in self._loaded:
            folder = self.sources[label].folder
            tokenizer = self._tokenizer(label)
            model = load_model(folder, dtype=self.dtype, device=self._device, trust_remote_code=self.trust)
            check_tokenizer(model, tokenizer, folder)
            self._loaded[label] = model, tokenizer
        return self._loaded[label]
