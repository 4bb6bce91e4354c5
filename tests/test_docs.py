"""What the documentation says is there: keys, commands, files, methods, papers, messages."""

import importlib.util
import re
from pathlib import Path

import pytest
import yaml

from distill.losses import LOSSES
from fastpath.config import Recipe
from fastpath.errors import ConfigError
from fastpath.recipe_file import load_recipe
from prune.choose import CHOOSERS
from prune.criteria import CRITERIA
from prune.frontier import SEARCHES
from prune.repair import REPAIRS

ROOT = Path(__file__).parents[1]
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), *(ROOT / f"{n}.md" for n in ("CONTRIBUTING", "SECURITY"))]
CODE = ("fastpath", "prune", "distill", "eval", "serve")
DEPTHDIAL, QUICKSTART = "configs/depthdial.yaml", "configs/quickstart.yaml"


def reference():
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs/reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def keys_of(schema, node, dotted=""):
    """Every dotted key of a JSON schema: not by the code that writes the page."""
    found = [node, *node.get("anyOf", ()), *node.get("allOf", ()), node.get("items", {})]
    for part in found:
        if "$ref" in part:
            part = schema["$defs"][part["$ref"].rsplit("/", 1)[1]]
        for name, inner in part.get("properties", {}).items():
            key = f"{dotted}.{name}".lstrip(".")
            yield key
            yield from keys_of(schema, inner, key)


def test_every_key_of_a_recipe_is_in_the_reference():
    page, schema = reference().recipe_page(), Recipe.model_json_schema()
    keys = set(keys_of(schema, schema))
    assert {"out", "prune.drop", "distill.data.source", "eval.speed.repeats", "serve.fast.url"} <= keys
    rows = re.findall(
        r"^\| `([\w.]+)` \| (.*?) \| (.*?) \| (.*?) \|$", page.replace("\\|", "/"), re.MULTILINE
    )
    assert {key for key, *_ in rows} == keys
    assert all(words and kind and default for _, words, kind, default in rows)


def test_the_reference_tells_type_bounds_unit_and_default():
    page = reference().recipe_page()
    assert "| integer, at least 1 or null | `null` |" in page  # prune.drop
    assert "| number, GiB, at least 0 | `2.0` |" in page  # prune.stream_gib
    assert "one of `auto`, `float32`, `bfloat16`, `float16` | `auto` |" in page
    assert "`eval.variants` |" in page and "mapping of text to text" in page


def blocks(kind):
    """(page, text) of the fenced blocks of a kind."""
    for page in PAGES:
        for found, text in re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
            if found == kind:
                yield page, text


def test_quoted_commands_name_recipes_modules_and_targets_that_exist():
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    num = 0
    for page, text in blocks(""):
        for line in text.replace("\\\n", " ").splitlines():
            num += 1
            for config in re.findall(r"configs/[\w./-]+", line):
                assert (ROOT / config).exists() or "NAME" in config, (page, line)
            for module in re.findall(r" -m ([a-z]\w*(?:\.\w+)?)(?= --| [a-z]+/| |$)", line):
                path = ROOT / module.replace(".", "/")
                assert (path / "__main__.py").exists() or path.with_suffix(".py").exists(), (page, line)
            for target in re.findall(r"^make ([\w-]+)", line):
                assert target in targets, (page, line)
    assert num > 30


def test_overrides_in_quoted_commands_are_keys():
    for page, text in blocks(""):
        for line in text.replace("\\\n", " ").splitlines():
            config = re.search(r"-m (?:prune|distill|eval|serve) .*--config (configs/[\w./-]+\.yaml)", line)
            given = re.findall(r"\s((?:model|prune|distill|eval|serve|out)[\w.]*=\S+)", line)
            if config and given:
                assert load_recipe(ROOT / config[1], given), page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_that_a_page_names_exist(page):
    folders = "fastpath|prune|distill|eval|serve|tests|configs|benchmarks|notebooks|docs"
    for path in re.findall(rf"`((?:{folders})/[\w./-]*)", page.read_text()):
        assert (ROOT / path).exists() or "NAME" in path, path


def test_methods_are_all_there_and_every_paper_is_cited_by_the_code():
    page = (ROOT / "docs/reference/methods.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    for names in (CRITERIA, {**CHOOSERS, **SEARCHES}, LOSSES, set(REPAIRS) - {"none"}):
        assert set(names) <= set(rows)
    sources = [(ROOT / "README.md").read_text()]
    sources += [file.read_text() for folder in CODE for file in (ROOT / folder).rglob("*.py")]
    code = "\n".join(sources)
    papers = set(re.findall(r"abs/(\d{4}\.\d{5})", page))
    assert len(papers) > 20
    assert not [paper for paper in papers if paper not in code]
    for loss, row in ((name, LOSSES[name]) for name in LOSSES):
        assert row.paper.split("arXiv ")[-1] in page, loss


WRONG = {
    "unknown key": (DEPTHDIAL, ["prune.dorp=3"]),
    "two sizes": (DEPTHDIAL, ["prune.speedup=1.2"]),
    "no value": (DEPTHDIAL, ["drop"]),
    "accelerate's file": ("configs/accelerate/ddp.yaml", []),
    "teacher": (QUICKSTART, ["distill.teacher=top-k", "distill.loss=jsd"]),
    "rows": (QUICKSTART, ["distill.batch_rows=6"]),
    "label": (DEPTHDIAL, ["eval.variants={base: prune}"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_troubleshooting_quotes_what_a_wrong_recipe_says(case):
    config, overrides = WRONG[case]
    with pytest.raises(ConfigError) as caught:
        load_recipe(ROOT / config, overrides)
    assert f"error: {caught.value}\n" in (ROOT / "docs/troubleshooting.md").read_text()


def test_every_quoted_message_is_in_the_code():
    """Its longest stretch of plain words, as the code has it (names and numbers are filled in)."""
    code = "".join(file.read_text() for folder in CODE for file in (ROOT / folder).rglob("*.py"))
    code = re.sub(r'"\s*\n\s*f?"', "", code)  # texts that go on in the next line
    for _, text in blocks("text"):
        words = re.split(r"[:;(),'\"]|\d+(?:\.\d+)?|runs/\S+|configs/\S+", text)
        known = [part.strip() for part in words if len(part.strip()) >= 10 and part.strip() in code]
        assert known, text


def test_the_navigation_names_every_page():
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    named = re.findall(r"[\w/-]+\.md", str(config["nav"]))
    assert sorted([*named]) == sorted(
        [*(str(p.relative_to(ROOT / "docs")) for p in (ROOT / "docs").rglob("*.md")), "reference/recipe.md"]
    )
    assert config["theme"]["font"] is False and config["plugins"] == ["search"]
