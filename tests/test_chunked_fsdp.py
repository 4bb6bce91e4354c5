"""Under FSDP2 the head is read after the body has run; before that it would be wrong, and is refused."""

import pytest
import torch
import torch.distributed as dist
from tiny import tiny_llama
from torch import multiprocessing, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from distill.chunked import chunked_nats
from distill.head import Head
from distill.losses import Objective
from distill.targets import Live
from fastpath.blocks import find_blocks
from fastpath.errors import ModelError

WORLD = 2
OBJECTIVE = Objective(kd_weight=0.7, temperature=2.0)


class Step(nn.Module):
    """Student and teacher, with the loss inside the root's forward."""

    def __init__(self, tied):
        super().__init__()
        self.student = tiny_llama(depth=2, tie_word_embeddings=tied)
        self.teacher = tiny_llama(depth=2, seed=1, tie_word_embeddings=tied).requires_grad_(False)

    def forward(self, ids_BT, *, too_early=False):
        heads = [Head(model.lm_head) for model in (self.student, self.teacher)]
        if too_early:
            heads[0].weights()
        with torch.no_grad():
            teacher_ND = self.teacher.model(ids_BT).last_hidden_state[:, :-1].flatten(0, 1)
        student_ND = self.student.model(ids_BT).last_hidden_state[:, :-1].flatten(0, 1)
        return chunked_nats(
            student_ND, ids_BT[:, 1:].flatten(), head=heads[0], teacher=Live(teacher_ND, heads[1]),
            objective=OBJECTIVE, vocabulary=260, chunk_bytes=8192,
        ).loss  # fmt: skip


def sharded(step, mesh, *, tail):
    """As accelerate lays it out: each block, then (tail) the final norm with the head, then the rest."""
    for model in (step.student, step.teacher):
        for block in find_blocks(model)[1]:
            fully_shard(block, mesh=mesh)
        if tail:
            tied = [model.model.embed_tokens] if model.config.tie_word_embeddings else []
            fully_shard([model.model.norm, *tied, model.lm_head], mesh=mesh, reshard_after_forward=False)
    return fully_shard(step, mesh=mesh)


def worker(rank, store):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=WORLD)
    mesh = init_device_mesh("cpu", (WORLD,))
    ids_BT = torch.randint(256, (4, 16), generator=torch.Generator().manual_seed(0))
    mine_BT, num_tokens = ids_BT[2 * rank : 2 * rank + 2], 4 * 15
    for tied in (False, True):
        for tail in (False, True):
            alone, step = Step(tied), sharded(Step(tied), mesh, tail=tail)
            for _ in range(2):  # what is gathered and freed differs after the first step
                alone.zero_grad()
                step.zero_grad()
                (alone(ids_BT) / num_tokens).backward()
                # FSDP means over the processes
                (step(mine_BT) / num_tokens * WORLD).backward()
                want = {n: p.grad for n, p in alone.named_parameters() if p.requires_grad}
                for name, p in step.named_parameters():
                    assert isinstance(p, DTensor)
                    if p.requires_grad:
                        error = (p.grad.full_tensor() - want[name]).norm() / want[name].norm()
                        assert error <= 1e-5, (tied, tail, name, error)
            frozen_VD, _ = Head(step.teacher.lm_head).weights()  # gathered by hand: nobody wants its gradient
            assert torch.equal(frozen_VD, alone.teacher.lm_head.weight)
        with pytest.raises(ModelError, match="still sharded"):
            sharded(Step(tied), mesh, tail=True)(mine_BT, too_early=True)
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_sharded_processes_are_one(tmp_path):
    multiprocessing.spawn(worker, args=(tmp_path / "store",), nprocs=WORLD)
