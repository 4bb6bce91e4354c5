"""The user's own tasks and requests: all of them are scored, and a fault is named with its line."""

import json

import pytest
from tiny import run_stage, write_recipe, write_tiny

from fastpath.runs import read_json


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("base") / "model")


def test_user_s_own_yaml_folder_is_evaluated(base, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "data.jsonl").write_text(
        "".join(
            json.dumps({"q": f"Ticket {n}: I forgot my password.", "label": n % 2}) + "\n" for n in range(8)
        )
    )
    (tmp_path / "mine" / "tickets.yaml").write_text(
        f"task: tickets\ndataset_path: json\ndataset_kwargs:\n  data_files: {tmp_path}/mine/data.jsonl\n"
        "test_split: train\noutput_type: multiple_choice\ndoc_to_text: '{{q}} Team:'\n"
        "doc_to_choice: [account, billing]\ndoc_to_target: label\n"
        "metric_list:\n  - metric: acc\n"
    )
    own = {
        "variants": {"same": str(base)},
        "simple": ["tickets"],
        "include_path": [str(tmp_path / "mine")],
        "items_per_task": 5,
    }
    recipe = write_recipe(tmp_path / "r.yaml", model=base, out=tmp_path / "run", eval=own)
    assert run_stage("eval", recipe) == 0
    task = read_json(tmp_path / "run/eval/results.json")["variants"]["same"]["simple"]["tasks"]["tickets"]
    assert (task["num_items"], task["chance"]) == (5, 0.5)


def own_data(tmp_path, *rows):
    path = tmp_path / "mine.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


CHOICE = {
    "prompt": "I was charged twice. Team:",
    "choices": ["billing", "sales"],
    "answer": "billing",
    "suite": "simple",
}
WRITTEN = {"prompt": "6 times 3 is", "answer": "18", "suite": "complex"}


def test_user_s_own_requests_are_suites_of_their_own(base, tmp_path):
    rows = [CHOICE | {"prompt": f"{CHOICE['prompt']} {n}"} for n in range(3)] + [WRITTEN]
    own = {"variants": {"same": str(base)}, "simple": [], "complex": [], "data": [own_data(tmp_path, *rows)]}
    recipe = write_recipe(tmp_path / "r.yaml", model=base, out=tmp_path / "run", eval=own)
    assert run_stage("eval", recipe) == 0
    variant = read_json(tmp_path / "run/eval/results.json")["variants"]["same"]
    assert variant["simple"]["tasks"]["mine_simple_choice"]["num_items"] == 3
    assert variant["complex"]["tasks"]["mine_complex_written"]["metric"] == "exact_match"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "line 2: not valid JSON"),
        ("[]", "line 2: expected an object"),
        (CHOICE | {"suite": "hard"}, "line 2: suite must be 'simple' or 'complex', got 'hard'"),
        (CHOICE | {"answer": "refunds"}, "line 2: the answer must be one of the choices"),
        (CHOICE | {"choices": ["billing"]}, "line 2: choices must be two texts or more"),
        (CHOICE | {"prompt": 3}, "line 2: 'prompt' must be text"),
        (CHOICE | {"hint": "x"}, "line 2: unknown key 'hint'"),
        ({"prompt": "p", "anwser": "a", "suite": "simple"}, "line 2: unknown key 'anwser'; known: answer"),
    ],
)
def test_faulty_line_of_own_data_is_named(tmp_path, row, message):
    from eval.own_data import own_tasks
    from fastpath.errors import ConfigError

    with pytest.raises(ConfigError, match=r"mine\.jsonl") as error:
        own_tasks([own_data(tmp_path, CHOICE, row)])
    assert message in str(error.value)


def test_empty_or_absent_data_is_named(tmp_path):
    from eval.own_data import own_tasks
    from fastpath.errors import ConfigError

    with pytest.raises(ConfigError, match="has no items"):
        own_tasks([own_data(tmp_path, "")])
    with pytest.raises(ConfigError, match="no such file"):
        own_tasks([str(tmp_path / "none.jsonl")])


def own_lines(path, number, **changes):
    path.parent.mkdir(exist_ok=True)
    lines = [{"prompt": f"Ticket {n}:", "answer": "a", "choices": ["a", "b"], "suite": "simple"} | changes
             for n in range(number)]  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def test_all_of_the_users_own_lines_are_scored(tmp_path):
    from eval.harness import load_suites, num_items
    from fastpath.config import EvalConfig

    config = EvalConfig(data=(own_lines(tmp_path / "mine.jsonl", 60),), items_per_task=40)
    task = load_suites(config, seed=0)["simple"]["mine_simple_choice"]
    assert num_items(task, config) == 60, "items_per_task limits what we make, not what the user brings"


def test_two_data_files_of_one_name_are_refused(tmp_path):
    from eval.own_data import own_tasks
    from fastpath.errors import ConfigError

    paths = [own_lines(tmp_path / folder / "data.jsonl", 2) for folder in ("a", "b")]
    with pytest.raises(ConfigError, match=r"eval.data: .*data.jsonl: another file is called data"):
        own_tasks(paths)


def test_items_of_a_long_task_are_drawn_not_the_first(tmp_path):
    from eval.harness import _sample, load_suites
    from fastpath.config import EvalConfig

    config = EvalConfig(data=(own_lines(tmp_path / "mine.jsonl", 60),), items_per_task=10)
    task = load_suites(config, seed=0)["simple"]["mine_simple_choice"]
    assert _sample(task, config) is None
    task.config.metadata.pop("own_data")  # as a hub task
    (drawn,) = _sample(task, config).values()
    assert len(set(drawn)) == 10 and drawn == sorted(drawn) and max(drawn) > 10
    assert _sample(task, config) == _sample(task, config)
