"""Temperature and top_p of each request in a batch, for the continuous batching of transformers.

Its own warpers divide by a temperature of 0 and sort the vocabulary for requests that ask for no top_p.
"""

import torch
from torch import Tensor
from transformers import GenerationConfig
from transformers.generation.continuous_batching import cb_logits_processors as stock
from transformers.generation.logits_process import TemperatureLogitsWarper, TopPLogitsWarper

# N rows that get a token, V vocabulary


class Temperature(stock.ContinuousBatchingTemperatureLogitsWarper):
    """Temperature 0 leaves the likeliest token alone."""

    def __call__(self, scores: Tensor, tensor_arg: Tensor) -> Tensor:
        """(N, V) scores -> (N, V)."""
        temperatures_N1 = tensor_arg[: len(scores)].view(dtype=torch.float32).unsqueeze(-1)
        greedy_N1 = temperatures_N1 == 0
        warm_NV = scores / temperatures_N1.masked_fill(greedy_N1, 1.0)
        best_N1 = scores.argmax(dim=-1, keepdim=True)
        likeliest_NV = torch.full_like(scores, -torch.inf).scatter(-1, best_N1, 0.0)
        return torch.where(greedy_N1, likeliest_NV, warm_NV)


class TopP(stock.ContinuousBatchingTopPLogitsWarper):
    """Sorts only if a row asks for it."""

    def __call__(self, scores: Tensor, tensor_arg: Tensor) -> Tensor:
        """(N, V) scores -> (N, V)."""
        if bool((tensor_arg[: len(scores)].view(dtype=torch.float32) >= 1).all()):
            return scores
        return super().__call__(scores, tensor_arg)


def sampling_config(config: GenerationConfig) -> GenerationConfig:
    """The model's own generation config, open to each request's temperature and top_p.

    Registers our warpers with transformers, which builds one only where a config asks for it.
    """
    stock.CLASSIC_TO_CB_PROCESSORS_MAP[TemperatureLogitsWarper] = Temperature
    stock.CLASSIC_TO_CB_PROCESSORS_MAP[TopPLogitsWarper] = TopP
    return GenerationConfig(
        do_sample=True,
        temperature=0.5,
        top_p=0.5,
        top_k=0,
        eos_token_id=config.eos_token_id,
        bos_token_id=config.bos_token_id,
        pad_token_id=config.pad_token_id,
    )
