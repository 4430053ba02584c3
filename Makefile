# Firstline. `make demo` and `make test` are all a new user needs.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.PHONY: help build demo models test test-llm check k8s-check k8s-rules chart alerts-check dashboards attack simulate bench day bench-index \
	images reproducible compose

CARGO ?= cargo
TOOLS := target/tools
FIRSTLINE := target/release/firstline
DEMO_SECRET := whsec_ZGVtbyBzZWNyZXQgb2YgdGhlIGxvY2FsIHJlY2VpdmVy

help:
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

build: ## build firstline and the stage binaries into target/release
	@tools/need cc build-essential
	$(CARGO) build --release --workspace --bins

demo: build ## prepare the demo assistant and chat with it; without a terminal, ask it five questions
	@tools/demo $(FIRSTLINE) $(DEMO_SECRET)

models: ## fetch the sentence encoder of the dense tier into the user's cache, pinned and verified
	@tools/need python3 python3 python3-venv
	@tools/python $(TOOLS)
	@tools/models $(TOOLS)/python/bin/python

test: models ## everything the tests need, then the tests
	@tools/need cc build-essential
	@tools/postgres
	@tools/need strace strace
	@tools/need redis-server redis-server
	@tools/prometheus $(TOOLS) >/dev/null
	$(CARGO) build --workspace --bins
	$(CARGO) test --workspace --no-run
	@# In two halves that take as long; all but `llama`, which make test-llm is for.
	@tools/together "$(CARGO) test --workspace --lib --bins --test '[a-km-p]*' --test 'l[!l]*' && $(CARGO) test --workspace --doc" \
		"$(CARGO) test --workspace --test '[q-z]*'"

test-llm: ## the tests with a real model server, llama.cpp and a small model, built and fetched once
	@tools/need c++ build-essential
	@tools/need python3 python3 python3-venv
	@tools/python $(TOOLS)
	@tools/llama $(TOOLS)/python/bin/python
	$(CARGO) test --package tests --test llama

check: ## format, lints, the rules of the house, the contracts
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	@tools/house-rules
	@tools/buf $(TOOLS)

k8s-check: ## every overlay and combination of components renders, is valid and keeps the rules; the chart renders the same
	@tools/need python3 python3 python3-venv
	@tools/need npm npm
	@tools/k8s-check $(TOOLS)

k8s-rules: ## the rules of deploy/alerts as an object of the Prometheus operator, into k8s/components/monitoring
	@tools/need python3 python3 python3-venv
	@tools/need npm npm
	@tools/kubernetes $(TOOLS)
	@$(TOOLS)/kubernetes/python/bin/python -B tools/k8s/rules.py

chart: ## the Helm chart, target/chart/firstline-VERSION.tgz
	@tools/need python3 python3 python3-venv
	@tools/need npm npm
	@tools/kubernetes $(TOOLS)
	@tools/chart $(TOOLS) target/chart/firstline
	@$(TOOLS)/kubernetes/helm package target/chart/firstline --destination target/chart

dashboards: ## write deploy/dashboards anew
	@tools/need python3 python3 python3-venv
	tools/dashboards

alerts-check: ## alert rules with their tests, runbooks and dashboards, and that all they ask for exists
	@tools/need python3 python3 python3-venv
	@tools/python $(TOOLS)
	@PATH=$$(tools/prometheus $(TOOLS)):$$PATH && $(TOOLS)/python/bin/python tools/alerts-check

attack: ## the attack suite with models that obey, repeat, leak and invent: a table, and target/attack/report.html
	$(CARGO) bench --workspace --bench attack

simulate: ## the controller of a rollout with made-up customers: false alarms and detections, target/simulate/report.html
	@tools/need cc build-essential
	$(CARGO) build --release --package firstline
	$(FIRSTLINE) simulate --table --scenario equal --scenario worse --scenario slower --scenario drift --report target/simulate/report.html

bench: build ## the pipeline against bare calls, commits against syncs, how soon answers are there, restarts, capacity
	@tools/need strace strace
	@tools/postgres
	$(CARGO) bench --workspace --bench pipeline
	$(CARGO) bench --workspace --bench commits
	$(CARGO) bench --workspace --bench answers
	$(CARGO) bench --workspace --bench rolling
	$(CARGO) bench --workspace --bench capacity

day: build ## what a day of 20,000 turns costs without and with each measure, and what that does to golden questions
	$(CARGO) bench --workspace --bench day

bench-index: ## an index of a million passages: time to build, size, time of a search, memory
	$(CARGO) bench --package retriever --bench million

images: ## the eight container images without a daemon: built, sized, unpacked, run, probed; archives in target/images
	@tools/need cc build-essential
	@tools/need python3 python3 python3-venv
	@tools/python $(TOOLS)
	@tools/images $(TOOLS)

reproducible: images ## compiles the images' processes once more, in another folder: the same bytes
	@tools/reproducible $(TOOLS)

compose: ## deploy/compose.yaml: valid by docker compose, and without the privileges it promises to do without
	@tools/need python3 python3 python3-venv
	@tools/python $(TOOLS)
	@tools/compose $(TOOLS)
