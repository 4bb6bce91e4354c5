"""The ridge regression of what a stream lacks on what a linear map reads, summed batch by batch."""

# N tokens, D width, H what the map reads

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Sums:
    """The least squares of one map, in float64."""

    gram_HH: Tensor | float = 0.0
    cross_HD: Tensor | float = 0.0
    squares: float = 0.0
    weights: float = 0.0

    def add(self, read_NH: Tensor, lacking_ND: Tensor, *, weight_N: Tensor, relative_N: Tensor) -> None:
        """Tokens of a batch: what the map reads, what the stream lacks, what a token counts for.

        `relative_N`: one over the squared length that the lack is measured in.
        """
        root_N1 = (weight_N * relative_N).sqrt()[:, None]
        read_NH, lacking_ND = read_NH.float() * root_N1, lacking_ND.float() * root_N1
        self.gram_HH = self.gram_HH + (read_NH.T @ read_NH).double()
        self.cross_HD = self.cross_HD + (read_NH.T @ lacking_ND).double()
        self.squares += lacking_ND.double().square().sum().item()
        self.weights += weight_N.double().sum().item()

    def solve(self, strength: float) -> Tensor:
        """The (H, D) change that minimises the lack, with strength * tr(gram) / H on its square; float64."""
        gram_HH, cross_HD = self._sums()
        ridge = strength * gram_HH.trace() / len(gram_HH)
        if not ridge > 0:
            return torch.zeros_like(cross_HD)  # the map reads nothing
        eye_HH = torch.eye(len(gram_HH), dtype=torch.float64, device=gram_HH.device)
        return torch.linalg.solve(gram_HH + ridge * eye_HH, cross_HD)

    def error(self, change_HD: Tensor | None) -> float:
        """Mean lack that a change leaves; None: no change."""
        if change_HD is None:
            return self.squares / self.weights
        gram_HH, cross_HD = self._sums()
        gained = 2 * (change_HD * cross_HD).sum() - (change_HD * (gram_HH @ change_HD)).sum()
        return (self.squares - gained.item()) / self.weights

    def _sums(self) -> tuple[Tensor, Tensor]:
        assert isinstance(self.gram_HH, Tensor) and isinstance(self.cross_HD, Tensor), "no batches"
        return self.gram_HH, self.cross_HD
