"""A sharded pair takes the step of a whole one, with two sets of weights and with one."""

import pytest
import torch
import torch.distributed as dist
from test_pair import CONFIG, IDS, KEEP, LABELS, pair_of
from tiny import byte_tokenizer, tiny_llama, write_tiny
from torch import multiprocessing
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from distill.students import stock_model
from fastpath.blocks import find_blocks, keep_blocks

WORLD = 2


def worker(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=WORLD)
    mesh = init_device_mesh("cpu", (WORLD,))
    folders = folder / "base", folder / "cut"
    for mode in ("full", "lora", "shared-lora"):
        alone, pair = pair_of(folders, mode), pair_of(folders, mode)
        for model in (stock_model(pair.student), pair.teacher):
            for block in find_blocks(model)[1] if model is not None else ():
                fully_shard(block, mesh=mesh)
        fully_shard(pair, mesh=mesh)
        for _ in range(2):  # what is gathered and freed differs after the first step
            alone.zero_grad()
            pair.zero_grad()
            alone(IDS, LABELS, hidden_weight=0.5)[0].backward()
            mine = slice(rank, rank + 1)
            (pair(IDS[mine], LABELS[mine], hidden_weight=0.5)[0] * WORLD).backward()
            want = {name: p.grad for name, p in alone.named_parameters() if p.requires_grad}
            for name, p in pair.named_parameters():
                assert isinstance(p, DTensor)
                if p.requires_grad:
                    error = (p.grad.full_tensor() - want[name]).norm() / want[name].norm().clamp(min=1e-9)
                    assert error <= 1e-4, (mode, name, error)
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_sharded_processes_are_one(tmp_path):
    assert CONFIG.freeze_prefix
    write_tiny(tmp_path / "base")
    keep_blocks(tiny_llama(), KEEP).save_pretrained(tmp_path / "cut")
    byte_tokenizer().save_pretrained(tmp_path / "cut")
    multiprocessing.spawn(worker, args=(tmp_path,), nprocs=WORLD)
