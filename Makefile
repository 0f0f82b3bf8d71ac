# The two commands: `make demo` and `make test`. Both set up .venv first, from constraints.txt.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
ACCELERATOR := $(shell command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)
EXTRAS ?= dev,demo,$(ACCELERATOR)
BIN := .venv/bin

.PHONY: demo test lint soak clean

demo: .venv/.ready
	$(BIN)/winnow demo

test: .venv/.ready
	$(BIN)/pytest -n 2 --dist loadfile

# mypy knows which calls macOS lacks and what newer Pythons have removed.
lint: .venv/.ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy --platform darwin --python-version 3.14
	$(BIN)/lint-imports
	$(BIN)/codespell

soak: .venv/.ready
	WINNOW_SOAK=1 $(BIN)/pytest -o timeout=0 -o faulthandler_timeout=0

# uv is several times faster than pip; without it pip does the same from the same file.
# uv does not read pip's configuration, so a local wheel folder named there is handed over.
.venv/.ready: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "winnow needs Python 3.11 or newer: PYTHON=path/to/python make ..."; exit 78; }
	$(PYTHON) -m venv .venv
	@uv=$$(command -v uv || { $(BIN)/python -m pip install -q uv >/dev/null 2>&1 && echo $(BIN)/uv; }); \
	if [ -n "$$uv" ] && UV_FIND_LINKS="$$($(PYTHON) -m pip config get global.find-links 2>/dev/null)" \
		$$uv pip install -q --compile-bytecode --python $(BIN)/python -c constraints.txt -e '.[$(EXTRAS)]'; then :; \
	else $(BIN)/python -m pip install -q -c constraints.txt -e '.[$(EXTRAS)]'; fi
	@touch $@

clean:
	rm -rf .venv .winnow build dist *.egg-info
