# Everything a person runs from a clone. `make help` lists it.

PYTHON ?= python3
SECONDS ?= 60
JOBS ?= 4

.PHONY: help demo test bench package medium docs picture screenshots lock clean

help: ## List these commands.
	@sed -n 's/^\([a-z]*\):.*## /make \1: /p' Makefile

demo: ## A simulated plant from register to verified archive; SECONDS=60 says how long, HISTORIAN=1 adds PostgreSQL.
	@.ci/packages demo
	@.ci/environment $(PYTHON) requirements.lock
	@.venv/bin/tidegate demo --seconds $(SECONDS) $(if $(HISTORIAN),--historian)

test: ## Install what the tests need and run them all; JOBS=4 says how many at once.
	@.ci/packages test
	@.ci/environment $(PYTHON) requirements-test.lock
	@.ci/checks $(JOBS)

bench: ## Measure, and add the figures to bench/RESULTS.md.
	@.ci/packages test
	@.ci/environment $(PYTHON) requirements-test.lock
	@.venv/bin/python -m bench

package: ## Build wheel, sdist and the Debian packages of every release and architecture into dist/.
	@.ci/packages package
	@.ci/environment $(PYTHON) requirements-test.lock
	@.ci/package

medium: package ## Pack all packages for sites without an index, as one file signed with the key KEY of gpg.
	@.ci/debian/medium "$(KEY)"

docs: ## Write the reference pages and the configuration schema again from the code.
	@.ci/environment $(PYTHON) requirements-test.lock
	@.venv/bin/python docs/generate.py
	@.venv/bin/python docs/network.py
	@.venv/bin/python -m edge.config.reference >docs/reference/settings.md
	@.venv/bin/python -m tests.support.field.page >docs/reference/field-cases.md
	@.venv/bin/python -m tests.support.requirements >docs/reference/requirements-matrix.md
	@.venv/bin/tidegate schema >configs/tidegate.schema.json
	@.venv/bin/tidegate schema --relay >configs/relay.schema.json

picture: ## Record the demo's screen for the README.
	@.ci/environment $(PYTHON) requirements.lock
	@.venv/bin/python docs/picture.py

screenshots: ## Take the pictures of the page for browsers.
	@.ci/packages test
	@.ci/environment $(PYTHON) requirements-test.lock
	@.venv/bin/python -m docs.screenshots

lock: ## Choose the newest allowed versions of all dependencies, with their hashes.
	@.ci/lock $(PYTHON)

clean: ## Remove what was built here.
	@rm -rf .venv build dist *.egg-info
