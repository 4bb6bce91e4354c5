"""Repairs in the prune stage: told wherever the cut is told, resumable, saved as judged."""

import pytest
import torch
from safetensors.torch import load_file
from tiny import byte_tokenizer, run_stage, tiny_llama, write_recipe, write_tiny

from fastpath.errors import SurgeryError
from fastpath.models import Lineage
from fastpath.plan import read_plan
from fastpath.recipe_file import load_recipe
from prune.judge import repair_items


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("base") / "model")


def run_repair(base_folder, out, method, **changes):
    prune = {"criterion": "cosine", "repair": method, "drop": 2, **changes}
    recipe = write_recipe(out.parent / f"{out.name}.yaml", model=base_folder, out=out, prune=prune)
    assert run_stage("prune", recipe) == 0
    return out / "prune"


def test_repair_is_told_in_plan_lineage_and_card(base_folder, tmp_path, monkeypatch, capsys):
    """Whether it helps a random model is chance: the gate is set both ways."""
    import prune.judge

    plain = run_repair(base_folder, tmp_path / "plain", "none")
    assert read_plan(plain / "plan.json").repair is None
    assert Lineage.read(plain / "model").repair == "none"
    real = prune.judge.judged
    for applied in (True, False):
        monkeypatch.setattr(
            prune.judge,
            "judged",
            lambda *a, applied=applied, **k: real(*a, **k).model_copy(update={"applied": applied}),
        )
        folder = run_repair(base_folder, tmp_path / str(applied), "merge")
        repair = read_plan(folder / "plan.json").repair
        assert repair.applied is applied
        assert Lineage.read(folder / "model").repair == ("merge" if applied else "none")
        words = f"merge, {'applied' if applied else 'NOT applied'}"
        card = (folder / "model" / "README.md").read_text()
        assert words in card and f"{repair.simple_before_nats:.3f} ->" in card
        assert f"{repair.complex_before_nats:.3f} ->" in card
        assert words in capsys.readouterr().out
        same = (folder / "model/model.safetensors").read_bytes() == (
            plain / "model/model.safetensors"
        ).read_bytes()
        assert same is not applied
        seen = set(Lineage.read(folder / "model").calibration_items)
        config = load_recipe(folder / "config.yaml").prune
        assert seen == {*Lineage.read(plain / "model").calibration_items, *repair_items(config, seed=0).ids}


def test_the_same_repair_twice_is_the_same_bytes(base_folder, tmp_path, monkeypatch):
    """Export and repair are one step: a killed run does it again, and must end as an uninterrupted one."""
    import prune.judge

    real = prune.judge.judged
    monkeypatch.setattr(
        prune.judge, "judged", lambda *a, **k: real(*a, **k).model_copy(update={"applied": True})
    )
    calm = run_repair(base_folder, tmp_path / "calm", "linear")
    with monkeypatch.context() as patch:
        patch.setattr("prune.run.finish", lambda folder: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises((KeyboardInterrupt, SystemExit, AssertionError)):
            run_repair(base_folder, tmp_path / "killed", "linear")
    killed = tmp_path / "killed" / "prune"
    assert not (killed / "DONE").exists()
    run_repair(base_folder, tmp_path / "killed", "linear")
    for name in ("plan.json", "model/model.safetensors", "model/lineage.json", "model/README.md"):
        assert (killed / name).read_bytes() == (calm / name).read_bytes(), name


def test_what_is_saved_is_what_was_judged_also_in_bfloat16(tmp_path, monkeypatch):
    import prune.judge

    real = prune.judge.judged
    monkeypatch.setattr(
        prune.judge, "judged", lambda *a, **k: real(*a, **k).model_copy(update={"applied": True})
    )
    tiny_llama().to(torch.bfloat16).save_pretrained(tmp_path / "m")
    byte_tokenizer().save_pretrained(tmp_path / "m")
    folder = run_repair(tmp_path / "m", tmp_path / "run", "merge")
    assert {t.dtype for t in load_file(folder / "model" / "model.safetensors").values()} == {torch.bfloat16}


def test_export_that_does_not_read_back_is_refused(tmp_path):
    from prune.save import check_read_back

    judged_model, other = tiny_llama(), tiny_llama(seed=1)
    with pytest.raises(SurgeryError, match="does not read back as it was judged"):
        check_read_back(other, judged_model, tmp_path)
    check_read_back(judged_model, judged_model, tmp_path)


def test_refused_repair_is_one_line_before_anything_is_scored(base_folder, tmp_path, capsys):
    recipe = write_recipe(
        tmp_path / "r.yaml", model=base_folder, out=tmp_path / "run", prune={"repair": "norm"}
    )
    assert run_stage("prune", recipe) == 2
    err = capsys.readouterr().err
    assert "error: LlamaForCausalLM: its embeddings are tied" in err
    assert "Traceback" not in err
    assert not (tmp_path / "run/prune/scores.json").exists()
    assert run_stage("prune", recipe, "prune.repair=magic") == 2
    assert "prune.repair: input should be 'none', 'linear', 'norm' or 'merge'" in capsys.readouterr().err


def test_benchmark_prints_a_table_and_its_facts(base_folder, tmp_path, capsys):
    from benchmarks.repair import measure

    recipe = write_recipe(tmp_path / "r.yaml", model=base_folder, out=tmp_path / "run")
    facts = measure(str(recipe), [[2, 3], [4]], ["none", "merge"])
    assert set(facts["drops"]) == {"2 3", "4"}
    none, merge = (facts["drops"]["4"][method] for method in ("none", "merge"))
    assert none["simple_rise"] == (0, 0, 0)
    assert merge["simple_before_nats"] == none["simple_after_nats"]
    assert "block 4: merged into block 3" in capsys.readouterr().out
