# Two commands do everything on a machine with git, make and Python 3.11 or 3.12.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
BIN := .venv/bin
# Processes that share the tests: make test JOBS=0 runs them in one, with pytest's usual output.
JOBS ?= 2

.PHONY: demo test check audit slow slow-faults faults reliability bench clean

demo: .venv/installed
	$(BIN)/python jobs/demo.py

test: .venv/installed check
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

check: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Published advisories about all that is installed. It asks PyPI about each package, and fails where PyPI
# does not answer.
audit: .venv/installed .venv/audit/installed
	$(BIN)/python -m pip freeze --all --exclude-editable > .venv/audit/packages.txt
	.venv/audit/bin/pip-audit --strict --disable-pip --no-deps --requirement .venv/audit/packages.txt $(ARGS)

# Up to 40 minutes on two busy cores: all slow tests but those that put faults into whole runs.
slow: .venv/installed
	$(BIN)/python -m pytest -m slow --ignore tests/faults

# Up to an hour and a half on two busy cores: faults of the campaign, once each. Hosts are lost only
# where root may make networks.
slow-faults: .venv/installed
	$(BIN)/python -m pytest -m slow tests/faults

# Hours. One section, one fault: make faults ARGS="kills --only raylet --seed 7 --times 1"
faults: .venv/installed
	PYTHONPATH=tests $(BIN)/python -m faults $(ARGS)

reliability: .venv/installed
	PYTHONPATH=tests $(BIN)/python -m faults.page

# An hour and more. Two cases, three rounds: make bench ARGS="--case a,b --rounds 3 --scene S.tif --model DIR"
bench: .venv/installed
	$(BIN)/python -m benchmarks $(ARGS)

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[cpu,dev]'
	touch $@

# An environment of its own: what audits is no part of what is audited.
.venv/audit/installed: .venv/installed
	$(PYTHON) -m venv .venv/audit
	.venv/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	touch $@

clean:
	rm -rf .venv demo
