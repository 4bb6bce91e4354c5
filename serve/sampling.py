"""Temperature, top_p and log-probabilities of each request in a batch, for transformers' continuous batching.

Its own warpers divide by a temperature of 0 and sort the vocabulary for requests that ask for no top_p; its
log-probabilities are those after the warpers: 0 of every token at temperature 0.
"""

import torch
from torch import Tensor
from transformers import GenerationConfig
from transformers.generation.continuous_batching import cb_logits_processors as stock
from transformers.generation.continuous_batching import continuous_api
from transformers.generation.continuous_batching.model_runner import ModelRunner
from transformers.generation.logits_process import TemperatureLogitsWarper, TopPLogitsWarper

# N rows that get a token, V vocabulary


class Temperature(stock.ContinuousBatchingTemperatureLogitsWarper):
    """Temperature 0 leaves the likeliest token alone. It is first: what it gets is what the model said."""

    raw_NV: Tensor | None = None
    """The scores of the step under way, as the model gave them."""

    def __call__(self, scores: Tensor, tensor_arg: Tensor) -> Tensor:
        """(N, V) scores -> (N, V)."""
        self.raw_NV = scores
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
        # What a graph holds is done in every later step too.
        is_graph = scores.is_cuda and torch.cuda.is_current_stream_capturing()
        if not is_graph and bool((tensor_arg[: len(scores)].view(dtype=torch.float32) >= 1).all()):
            return scores
        return super().__call__(scores, tensor_arg)


class RawLogprobs(ModelRunner):
    """Gives each token's log-probability under the model itself, before temperature and top_p.

    Nothing but work on tensors, so that a CUDA graph holds all of it.
    """

    def _sample(self, scores: Tensor, output_ids: Tensor) -> None:
        super()._sample(scores, output_ids)  # row 0: the tokens; row 1: their log-probabilities
        if not self.return_logprobs:
            return
        temperature = self.logit_processor.logits_processor[0]
        assert isinstance(temperature, Temperature) and temperature.raw_NV is not None
        raw_NV, temperature.raw_NV = temperature.raw_NV, None
        tokens_N1 = output_ids[0, : len(raw_NV)].long().unsqueeze(-1)
        logprobs_N = raw_NV.gather(-1, tokens_N1).squeeze(-1) - raw_NV.logsumexp(-1)
        output_ids[1, : len(raw_NV)].copy_(logprobs_N.view(dtype=torch.int32))


def sampling_config(config: GenerationConfig) -> GenerationConfig:
    """The model's own generation config, open to each request's temperature and top_p.

    Registers our warpers with transformers, which builds one only where a config asks for it, and our runner.
    """
    continuous_api.ModelRunner = RawLogprobs  # type: ignore[misc]
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
