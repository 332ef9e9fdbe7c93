# Homefleet. `make demo` and `make test` do all the set-up on a fresh Debian machine.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
PEERS := $(TARGET)/peers

# What compiles Homefleet: BoringSSL wants cmake, a C++ compiler and libclang.
BUILD_PACKAGES := build-essential ca-certificates clang cmake libclang-dev pkg-config
# Independent programs that the tests talk to, and what the checks are written in.
TEST_PACKAGES := chromium chromium-driver conntrack coturn curl dnsmasq-base gnutls-bin haproxy iproute2 iputils-ping isc-dhcp-client \
  kea-dhcp4-server libcoap3-bin libxml2-utils \
  mosquitto mosquitto-clients nftables openssl procps python3 python3-venv rabbitmq-server softhsm2 sqlite3 stun-client stun-server udhcpc util-linux

# The broker of a demo over STOMP or MQTT.
DEMO_PACKAGES := $(if $(filter stomp,$(MTP)),rabbitmq-server) $(if $(filter mqtt,$(MTP)),mosquitto)

# The Python with aiocoap and websockets, for the interop tests.
export HOMEFLEET_PYTHON ?= $(abspath $(PEERS)/venv/bin/python)
# OpenSSL 3.5, for what `openssl cmp` has learned since 3.0.
export HOMEFLEET_OPENSSL35 ?= $(abspath $(PEERS)/openssl35/openssl)

BENCHES := post datagrams notif stun store pki notify cmp cwmp size

.PHONY: help demo device test lint bench $(BENCHES:%=bench-%) fuzz deps deps-build deps-test deps-lint docs clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{ printf "  make %-10s %s\n", $$1, $$2 }'

demo: deps-build ## build, then run a server and an agent for this machine; prints the console's address. MTP=coap, mqtt, stomp or websocket
	@scripts/install-packages $(DEMO_PACKAGES)
	$(CARGO) run --locked --quiet --bin homefleet -- demo $(MTP:%=--mtp %) $(ARGS)

test: deps-test ## every test, with the real peers
	$(CARGO) test --locked --workspace $(ARGS)

lint: deps-lint ## formatting, clippy, documentation, licences, purity of protocol crates, the standards ledger
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --quiet
	$(CARGO) deny --log-level error check bans licenses sources
	scripts/check-purity
	scripts/check-dependencies
	scripts/check-standards
	scripts/check-docs

# One after the other, each with its own words: `make bench BENCH=notify ARGS="wss mqtt"`.
BENCH ?= $(BENCHES)
bench: $(BENCH:%=bench-%) ## CPU per operation beside the named peers, notifications stored per MTP, size; one part: BENCH=notify ARGS="wss mqtt"

bench-post: deps-build # the CoAP engine alone
	$(CARGO) bench --locked --package homefleet-coap --bench post -- $(ARGS)

bench-datagrams: deps-test # requests, handshakes, sessions over UDP
	$(CARGO) bench --locked --package homefleet-net --bench datagrams -- $(ARGS)

bench-notif: deps-build # UDP-notif received, plain and over DTLS
	$(CARGO) bench --locked --package homefleet-net --bench notif -- $(ARGS)

bench-stun: deps-test # Binding Requests answered beside coturn, memory of a binding
	$(CARGO) bench --locked --package homefleet-net --bench stun -- $(ARGS)

bench-store bench-pki bench-notify bench-cmp bench-cwmp: bench-%: deps-test # durable writes; the CA alone; notifications in and stored over each MTP; certificates issued and stored; sessions of TR-069
	$(CARGO) bench --locked --package homefleet-server --bench $* -- $(ARGS)

bench-size: device # the agent's binary, and its memory when idle
	scripts/measure-agent $(TARGET)/device/homefleet-agent

device: deps-build ## build the agent small, as it goes onto devices: target/device/homefleet-agent
	BORING_BSSL_RUST_CPPLIB=static:-bundle=stdc++ $(CARGO) rustc --locked --profile device --package homefleet-agent --bin homefleet-agent -- \
	  -C link-arg=-Wl,-z,pack-relative-relocs

fuzz: deps-build ## replay the corpora and many seeded mutations through every decoder and machine
	HOMEFLEET_FUZZ_ROUNDS=$(or $(ROUNDS),200000) $(CARGO) test --locked --workspace --test suite fuzz -- --nocapture

deps: deps-build deps-test deps-lint ## install everything that is missing

deps-build: ## what building needs
	@scripts/install-packages $(BUILD_PACKAGES)

deps-test: deps-build ## the peers that the tests talk to
	@scripts/install-packages $(TEST_PACKAGES)
	@scripts/install-python-peers $(PEERS)/venv
	@scripts/install-openssl35 $(abspath $(PEERS))/openssl35

deps-lint: deps-build
	@scripts/install-packages python3
	@command -v cargo-deny >/dev/null || $(CARGO) install --debug --locked --quiet cargo-deny

clean: ## remove what was built
	$(CARGO) clean
