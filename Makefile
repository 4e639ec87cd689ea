# Thin wrappers over the commands that README shows. `make install` makes .venv with everything the other targets need.
PYTHON ?= python3
BIN := .venv/bin
RUN := $(BIN)/python -m

.PHONY: install demo ablation-demo docs test test-fast lint types imports bench clean
.DELETE_ON_ERROR:

install: .venv/.installed

.venv/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python >= 3.11 is needed; say which: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check -e '.[dev]'
	touch $@

# ---- the demo: real media -> stores -> one model on five data sets -> test table

DEMO_DATA := data/minilm/config.json stores/fillets/dataset.json \
	stores/tweets/dataset.json stores/movies/dataset.json stores/amazon/dataset.json stores/nyt/dataset.json

demo: install $(DEMO_DATA)
	$(BIN)/accelerate launch mmtrain/train.py --config configs/demo.yaml curriculum.sampler.temperature=0.5 --overwrite
	$(BIN)/mmtrain evaluate runs/demo --split test
	$(BIN)/mmtrain data probe stores/fillets speaker audio --split test
	$(BIN)/mmtrain report runs/demo
	@echo "run: runs/demo   report: runs/demo/report.html   test table: runs/demo/evaluation/test.md   stores: stores/   data: data/"

# three fusions x three samplers x three seeds on the same data; `make demo` need not have run
ablation-demo: install $(DEMO_DATA)
	$(BIN)/mmtrain ablate configs/ablations/fusion_x_sampler.yaml --jobs 2
	@echo "table: runs/fusion_x_sampler/ablation.md   page: runs/fusion_x_sampler/ablation.html"

data/minilm/config.json: | .venv/.installed
	$(RUN) data_prep fetch minilm --out data/minilm

data/sentiment/tweets.csv: | .venv/.installed
	$(RUN) data_prep fetch sentiment --out data/sentiment

stores/%/dataset.json: data/sentiment/tweets.csv
	$(RUN) data_prep extract data/sentiment/$*.csv --out stores/$*

ifneq ($(shell command -v apt-get),)
data/fillets/manifest.csv: | .venv/.installed
	$(RUN) data_prep fetch fillets --out data/fillets

stores/fillets/dataset.json: data/fillets/manifest.csv
	$(RUN) data_prep extract data/fillets/manifest.csv --out stores/fillets --audio logmel --video image-rows
else
stores/fillets/dataset.json: | .venv/.installed
	@echo "no apt-get here: the dialogues are replaced by a synthetic store with a planted signal"
	$(RUN) data_prep synth --out stores/fillets --samples 1869 --modality audio=64 --modality video=1280 \
		--task speaker=multiclass --task question=binary --task exclamation=binary
endif

# ---- the documentation: site/index.html opens from a disk; any warning is an error

docs: install
	NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs build --strict

# ---- checks

test: lint types imports
	$(RUN) pytest -n 2 -q

test-fast: install
	$(RUN) pytest -n 2 -q -m "not slow"

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

imports: install
	$(BIN)/lint-imports

bench: install
	$(RUN) benchmarks.bench_plan
	$(RUN) benchmarks.bench_simulate
	$(RUN) benchmarks.bench_weighting
	$(RUN) benchmarks.bench_overhead
	$(RUN) benchmarks.bench_step
	$(RUN) benchmarks.bench_ablation
	$(RUN) benchmarks.bench_cache
	$(RUN) benchmarks.bench_predict
	$(RUN) benchmarks.bench_store
	$(RUN) benchmarks.bench_loading
	$(RUN) benchmarks.bench_evaluation
	$(RUN) benchmarks.bench_million
	$(RUN) benchmarks.bench_scale
	$(RUN) benchmarks.bench_startup

clean:
	rm -rf .venv data stores runs cache site
