# make demo    deblurs a real photo with the shipped weights
# make test    runs all tests
# make fuzz    damages 10,000 files, settings and commands at random; none may do worse than be refused
# make smoke   measures a few methods on photos that come with scikit-image
# make lint    checks the style
# make clean   removes the environment and the demo's output
#
# The first of them sets up the environment in .venv; later runs find it ready. Another interpreter:
# make demo PYTHON=python3.12. For the CPU alone, without CUDA libraries (3 GB less to download):
# PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make demo

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO := output/demo
SMOKE := output/smoke

.PHONY: demo test fuzz smoke lint clean

demo: $(READY)
	@$(BIN)/python samplers/demo_photo.py $(DEMO)/input > /dev/null
	@echo "Deblurring $(DEMO)/input/chelsea.png; the results are:"
	@HF_HUB_OFFLINE=1 $(BIN)/python samplers/deblur.py $(DEMO)/input/chelsea.png -o $(DEMO) --device cpu --overwrite

# Two processes of one thread each: most tests are too small for more.
test: $(READY)
	@OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 WANDB_MODE=offline $(BIN)/python -m pytest -n 2 --dist loadfile

fuzz: $(READY)
	@HF_HUB_OFFLINE=1 FUZZ_CASES=5000 $(BIN)/python -m pytest tests/photos/test_damage.py tests/samplers/test_random_commands.py

smoke: $(READY)
	@HF_HUB_OFFLINE=1 $(BIN)/python evaluation/benchmark.py configs/benchmark/smoke.yaml out=$(SMOKE)

lint: $(READY)
	@$(BIN)/python -m ruff check .

clean:
	rm -rf $(VENV) $(DEMO) $(SMOKE) *.egg-info

# The stamp is younger than what the environment is made of, and comes last: a set-up that was
# interrupted is done again.
$(READY): pyproject.toml requirements.lock
	@command -v $(PYTHON) > /dev/null || { echo "make: expected Python 3.11 or newer, got no $(PYTHON)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "make: expected Python 3.11 or newer, got $$($(PYTHON) -V); name another: make PYTHON=python3.12" >&2; \
		exit 1; }
	@echo "Setting up $(VENV), once; this takes some minutes"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[sample,test]'
	@touch $@
