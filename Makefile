# Everything here needs git, the Rust toolchain and a C compiler; `make check` installs cargo-deny the first time.

LOG ?= /tmp/server_logs.txt
ARGS ?=
BIN := target/release/talktrack

.PHONY: run-server client build test check fmt bench help need-cc

help: ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

need-cc:
	@command -v cc >/dev/null || { echo "talktrack compiles SQLite, which needs a C compiler: apt-get install gcc libc6-dev (or your system's)" >&2; exit 1; }

build: need-cc ## the optimised binary, target/release/talktrack
	cargo build --release --locked -p talktrack-server

run-server: build ## the server on http://127.0.0.1:8080; its log goes to LOG=/tmp/server_logs.txt too
	@trap '' INT; $(BIN) serve $(ARGS) 2>&1 | tee $(LOG)

client: build ## talk to the server from the terminal; ARGS="--file conv.jsonl --sockets 64" replays
	$(BIN) client $(ARGS)

test: need-cc ## what the tests need, and all tests
	cargo test --locked --workspace --all-features

check: ## formatting, lints, licences
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets --all-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked -p talktrack --no-deps --all-features
	@command -v cargo-deny >/dev/null || cargo install --locked cargo-deny
	cargo deny --locked check bans licenses sources

fmt: ## formats the code
	cargo fmt --all

bench: build ## every figure in the README, beside its limit
	cargo bench --locked -p talktrack --bench path
	cargo bench --locked -p talktrack-server --bench server
