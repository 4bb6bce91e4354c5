"""The loss of one batch, from what enters the two heads."""

# N learnt tokens, D width, V vocabulary

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fastpath.config_distill import DistillConfig


def batch_nats(
    student: Any, student_ND: Tensor, teacher: Any, teacher_ND: Tensor, targets_N: Tensor, config: DistillConfig
) -> Tensor:
    """Summed nats: kd_weight T^2 KL(teacher || student) + (1 - kd_weight) * cross entropy."""
    student_NV = student.get_output_embeddings()(student_ND).float()
    with torch.no_grad():
        teacher_NV = teacher.get_output_embeddings()(teacher_ND).float()
    log_q, log_p = (functional.log_softmax(z / config.temperature, -1) for z in (student_NV, teacher_NV))
    kd = config.temperature**2 * (log_p.exp() * (log_p - log_q)).sum()
    if config.kd_weight == 1:
        return kd
    ce = functional.cross_entropy(student_NV, targets_N, reduction="sum")
    return config.kd_weight * kd + (1 - config.kd_weight) * ce
