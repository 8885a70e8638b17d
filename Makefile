# Everything a newcomer needs is `make demo` and `make test`; each sets up what it lacks.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

# Tools of the environment, such as uv, are found by what the targets run.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup demo run test check bench accuracy agreement fuzz kafka generate lock clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 18

setup: $(READY) ## Make .venv with the locked dependencies (uv if present, else venv and pip)

$(READY): pyproject.toml uv.lock requirements.lock
	@PYTHON="$(PYTHON)" sh deploy/dev/setup.sh $(VENV)
	@touch $(READY)

demo: $(READY) ## Stream a few thousand flows through everything and reconcile (embedded log, no Java)
	@$(BIN)/smartpipe demo $(ARGS)

run: $(READY) ## The demo, with the services left running and traffic flowing; Ctrl-C ends it
	@$(BIN)/smartpipe demo --serve $(ARGS)

test: $(READY) ## The whole test suite; Kafka and PostgreSQL tests run where they can
	@$(BIN)/pytest $(ARGS)

check: $(READY) ## Lint, types, layers, generated files, deployment files
	@sh deploy/dev/check.sh $(BIN)

bench: $(READY) ## Measure on a real Kafka; writes build/bench.json
	@$(BIN)/python -m bench $(ARGS)

accuracy: $(READY) ## Score the classifier against labelled flows; writes build/accuracy.json
	@$(BIN)/python -m bench.accuracy $(ARGS)

agreement: $(READY) ## Let the tariff engine and its slow reference model live 10 000 random days
	@$(BIN)/python -m bench.agreement $(ARGS)

fuzz: $(READY) ## Fuzz what reads strangers' text, a minute for each target (Linux; fetches atheris)
	@$(BIN)/uv run --no-sync --with atheris==3.0.0 python -m bench.fuzz $(ARGS)
	@$(BIN)/python -m bench.fuzz --growth

kafka: $(READY) ## Run a development Kafka on 127.0.0.1:9092 until Ctrl-C (Java 17 and Maven)
	@$(BIN)/python -m deploy.dev.kafka $(ARGS)

generate: $(READY) ## Write the generated files anew: schemas, settings table, OpenAPI
	@sh deploy/dev/generate.sh $(BIN)

lock: ## Lock the dependencies anew (needs uv)
	uv lock
	uv export -q --frozen --format requirements-txt --no-emit-project --all-groups -o requirements.lock
	uv export -q --frozen --format requirements-txt --no-emit-project --no-dev -o requirements-runtime.lock
	uv export -q --frozen --format requirements-txt --no-emit-project --only-group build -o requirements-build.lock

clean: ## Remove what was built
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
