# All targets need git, the Rust toolchain and a C compiler. `make test` and `make bench` also need PostgreSQL and pgbouncer, and
# install both on systems with apt-get; `make check` installs cargo-deny the first time.

LOG ?= /tmp/server_logs.txt
ARGS ?=
MINUTES ?= 60
BIN := target/release/talktrack
AS_ROOT = $(if $(filter 0,$(shell id -u)),,sudo)

.PHONY: run-server client build dist build-time test test-faults soak fuzz check fmt bench help need-cc need-postgres install-postgres need-faketime need-strace need-espeak need-clients need-browser

help: ## lists the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

need-cc:
	@command -v cc >/dev/null || { echo "talktrack compiles SQLite, which needs a C compiler: apt-get install gcc libc6-dev (or your system's)" >&2; exit 1; }

# The directories in which the tests look for the programs of PostgreSQL, which many systems keep out of the PATH.
PLACES = $(subst :, ,$(PATH)) /usr/sbin /usr/local/sbin /usr/lib/postgresql/*/bin /usr/local/pgsql/bin \
	/opt/homebrew/bin /opt/homebrew/opt/postgresql@*/bin /usr/local/opt/postgresql@*/bin
installed = $(wildcard $(addsuffix /$(1),$(PLACES)))

need-postgres:
	@[ -n "$(and $(call installed,initdb),$(call installed,pgbouncer))" ] || $(MAKE) --no-print-directory install-postgres

install-postgres:
	@command -v apt-get >/dev/null && { [ "$$(id -u)" = 0 ] || command -v sudo >/dev/null; } || \
	{ echo "the tests need PostgreSQL and pgbouncer: install both with your system's package manager (Debian: postgresql pgbouncer)" >&2; exit 1; }
	$(AS_ROOT) apt-get update
	$(AS_ROOT) env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends postgresql pgbouncer

# libfaketime gives a server a wrong time. If it cannot be installed, the tests that need it print this and are skipped.
need-faketime:
	@[ -n "$(wildcard /usr/lib/*/faketime/libfaketimeMT.so.1)" ] || ! command -v apt-get >/dev/null || \
	{ $(AS_ROOT) apt-get update && $(AS_ROOT) env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends libfaketime; } || \
	echo "libfaketime cannot be installed: the clock's jumps are not tested" >&2

# strace records the server's system calls and makes some of them fail, on Linux only. If it cannot be installed, the tests that
# need it print this and are skipped.
need-strace:
	@[ -n "$(call installed,strace)" ] || [ "$$(uname)" != Linux ] || ! command -v apt-get >/dev/null || \
	{ $(AS_ROOT) apt-get update && $(AS_ROOT) env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends strace; } || \
	echo "strace cannot be installed: failing disks and power cuts are not tested" >&2

# espeak-ng is the speech program for the recordings of `talktrack demo`. If it cannot be installed, the test that needs it prints
# this and is skipped.
need-espeak:
	@[ -n "$(call installed,espeak-ng)" ] || ! command -v apt-get >/dev/null || \
	{ $(AS_ROOT) apt-get update && $(AS_ROOT) env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends espeak-ng; } || \
	echo "espeak-ng cannot be installed: the recordings of talktrack demo are not tested" >&2

# Clients written by others and an S3 object store, all in Python. If they cannot be installed, the tests that need them print
# this and are skipped.
CLIENTS := crates/talktrack-server/tests/clients/requirements.txt

need-clients: target/clients/installed

target/clients/installed: $(CLIENTS)
	@python3 -m venv target/clients && target/clients/bin/pip install --quiet --disable-pip-version-check -r $(CLIENTS) && touch $@ || \
	echo "Python's schemathesis, websockets and moto cannot be installed: real clients and object stores are not tested" >&2

# A browser, its driver (run by Node) and the accessibility checker axe-core. If they cannot be installed, the tests that need
# them print this and are skipped. CHROMIUM names a browser that is not in the PATH. The font is for Chinese and Japanese text in
# the screenshots.
BROWSER := crates/talktrack-server/tests/browser
BROWSERS = $(call installed,chromium) $(call installed,chromium-browser) $(call installed,google-chrome) $(CHROMIUM)

need-browser: target/browser/installed
	@[ -n "$(strip $(BROWSERS))" ] || ! command -v apt-get >/dev/null || \
	{ $(AS_ROOT) apt-get update && $(AS_ROOT) env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium fonts-droid-fallback; } || \
	echo "Chromium cannot be installed: the pages are not tested in a browser" >&2

target/browser/installed: $(BROWSER)/package.json $(BROWSER)/package-lock.json
	@mkdir -p target/browser && cp $^ target/browser && \
	npm ci --prefix target/browser --silent --no-audit --no-fund --ignore-scripts && touch $@ || \
	echo "playwright-core and axe-core cannot be installed (they need Node 20 with npm): the pages are not tested in a browser" >&2

build: need-cc ## builds the optimised binary, target/release/talktrack
	cargo build --release --locked -p talktrack-server

# TARGET names a target other than this machine's. On Linux the binary names talktrack.debug: gdb, addr2line and the program's own stack
# traces find that file if it is in the binary's directory. On macOS the file is talktrack.dSYM.
TARGET ?=
DIST := target/$(if $(TARGET),$(TARGET)/)dist
DIST_BUILD := cargo build --profile dist --locked -p talktrack-server $(if $(TARGET),--target $(TARGET))

dist: need-cc ## builds what a release publishes, in target/dist/published: the binary, and its debug information in a file of its own
ifeq ($(shell uname),Darwin)
	CARGO_PROFILE_DIST_SPLIT_DEBUGINFO=packed CARGO_PROFILE_DIST_STRIP=debuginfo $(DIST_BUILD)
	rm -rf $(DIST)/published && mkdir $(DIST)/published && cp -RL $(DIST)/talktrack $(DIST)/talktrack.dSYM $(DIST)/published
else
	$(DIST_BUILD)
	mkdir -p $(DIST)/published && cd $(DIST)/published && objcopy --only-keep-debug ../talktrack talktrack.debug && \
	objcopy --strip-debug --add-gnu-debuglink=talktrack.debug ../talktrack talktrack
endif

# Builds in an empty directory what `make build` builds. The crates are downloaded before the clock starts.
build-time: need-cc ## measures the first build that the README states: wall-clock and processor time, size of the binary
	cargo fetch --locked
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && began=$$(date +%s) && \
	CARGO_TARGET_DIR=$$dir cargo build --release --locked -p talktrack-server && times > "$$dir/times" && \
	echo "wall clock: $$(($$(date +%s) - began)) s on $$(getconf _NPROCESSORS_ONLN) cores" && \
	echo "processor, user and system: $$(tail -n 1 "$$dir/times")" && \
	echo "binary: $$(($$(wc -c < "$$dir/release/talktrack") / 1000000)) MB"

run-server: build ## runs the server on http://127.0.0.1:8080; appends its log to LOG=/tmp/server_logs.txt
	@exec $(BIN) serve --log-file "$(LOG)" $(ARGS)

client: build ## talks to the server from the terminal; ARGS="--file conv.jsonl --sockets 64" replays a file
	$(BIN) client $(ARGS)

test: need-cc need-postgres need-faketime need-strace need-espeak need-clients need-browser ## installs what the tests need, and runs all tests
	@mkdir -p target && : > target/skipped.txt
	TALKTRACK_SKIPPED=$(CURDIR)/target/skipped.txt cargo test --locked --workspace --all-features; status=$$?; \
	sort -u target/skipped.txt; echo "$$(sort -u target/skipped.txt | grep -c ^SKIPPED) cases were skipped"; exit $$status

test-faults: need-cc need-postgres need-faketime need-strace ## runs all fault tests at full length (up to 40 minutes); make test runs a short version of each
	TALKTRACK_FAULTS=full cargo test --locked -p talktrack-server --test it -- faults:: replay:: --nocapture --test-threads 2
	TALKTRACK_FAULTS=full cargo test --locked -p talktrack --all-features --test it -- model:: damaged_bytes:: --nocapture

soak: need-cc need-postgres ## runs mixed load and random faults for MINUTES=60, over SQLite and PostgreSQL
	TALKTRACK_FAULTS=full TALKTRACK_SOAK_MINUTES=$(MINUTES) cargo test --release --locked -p talktrack-server --test it -- faults::soak --nocapture

# The targets create and delete thousands of data directories, so these are in memory if the system has /dev/shm.
FUZZ = cd fuzz && TMPDIR=$(firstword $(wildcard /dev/shm) /tmp) cargo +nightly fuzz run --fuzz-dir .
FUZZ_FOR = -max_total_time=$$((60 * $(MINUTES))) -timeout=60 -rss_limit_mb=4096

fuzz: MINUTES = 1
fuzz: need-cc ## runs libFuzzer for MINUTES=1 per target; needs a nightly toolchain and a C++ compiler
	@command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz
	@mkdir -p fuzz/corpus/wire fuzz/corpus/jsonl fuzz/corpus/journal
	$(FUZZ) wire corpus/wire seeds/wire -- $(FUZZ_FOR) -dict=seeds/frames.dict
	$(FUZZ) jsonl corpus/jsonl seeds/jsonl -- $(FUZZ_FOR) -dict=seeds/frames.dict -close_fd_mask=2
	$(FUZZ) journal corpus/journal -- $(FUZZ_FOR) -max_len=256 -len_control=0

# cargo-deny fetches the advisories of RustSec, which are published only as a git repository.
ADVISORIES := https://github.com/rustsec/advisory-db

# The subjects of the commits that are not on origin/main yet, so of those that can still be changed. Without that branch (a shallow
# clone, a repository of its own), the subject of HEAD. A merge's subject is not ours.
SUBJECTS = if git rev-parse --quiet --verify origin/main >/dev/null; then git log -50 --no-merges --format=%s origin/main..HEAD; \
	else git log -1 --format=%s; fi 2>/dev/null | grep -v '^Merge '

check: ## checks formatting, lints, licences, and known vulnerabilities if their database is reachable
	@long=$$($(SUBJECTS) | LC_ALL=C.UTF-8 grep -E '.{73}') || exit 0; \
	echo "a commit's subject has at most 72 characters; shorten: $$long" >&2; exit 1
	cargo fmt --all --check
	cargo xtask
	cargo clippy --locked --workspace --all-targets --all-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked -p sqlite-salvage -p talktrack-core -p talktrack-postgres -p talktrack -p talktrack-testkit -p talktrack-protocol -p talktrack-client --no-deps --all-features
	@command -v cargo-deny >/dev/null || cargo install --locked cargo-deny
	deploy/check
	cargo deny --locked check bans licenses sources
	cd fuzz && cargo update --workspace --locked
	@if GIT_TERMINAL_PROMPT=0 timeout 20 git ls-remote --quiet $(ADVISORIES) HEAD >/dev/null 2>&1; \
	then cargo deny --locked check advisories; \
	else echo "advisories were NOT checked: $(ADVISORIES) cannot be reached from here" >&2; fi

fmt: ## formats the code
	cargo fmt --all

bench: need-cc need-postgres ## every figure of docs/benchmarks.md, with its limit
	cargo bench --locked -p talktrack --bench path
	cargo bench --locked -p talktrack --bench postgres
	cargo bench --locked -p talktrack --bench search
	cargo bench --locked -p talktrack --bench stats
	cargo bench --locked -p talktrack-server --bench server
