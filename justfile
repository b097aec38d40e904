# The front door. Every recipe is a plain command that can be typed by hand.

# What is there.
default:
    @just --list

# Formatting, lints and the house's own rules.
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    cargo clippy -p ringweave-ids -p ringweave-overlay -p ringweave-node -- -D warnings -D clippy::iter_over_hash_type
    cargo xtask check

# All tests.
test:
    cargo test --workspace

# Thirty processes that are killed and started again for five minutes, while they talk.
chaos PEERS="30" SECONDS="300" SEED="1":
    CHAOS_PEERS={{PEERS}} CHAOS_SECONDS={{SECONDS}} CHAOS_SEED={{SEED}} cargo test --release -p ringweave --test chaos -- --nocapture

# Thirty processes that move from a star to rings, to Kademlia and back to rings, while they talk.
evolve PEERS="30":
    EVOLVE_PEERS={{PEERS}} cargo test --release -p ringweave --test chaos moves -- --nocapture

# What must heal, in worlds as large as their files say: `just healing 1-3 center,halves`.
healing SEEDS="1-20" ONLY="":
    HEALING_SEEDS={{SEEDS}} HEALING_ONLY={{ONLY}} cargo test --release -p ringweave-sim --test healing -- --nocapture

# Every order of events for three peers, and five within bounds: some 45 minutes.
model:
    MODEL_SIZE=full cargo test --release -p ringweave-sim --test model -- --nocapture --test-threads 1

# The micro-benchmarks of docs/benchmarks.md; those beside other crates are in bench/.
bench *ARGS:
    cargo bench --workspace {{ARGS}}

# The documentation of every crate.
doc:
    cargo doc --workspace --no-deps

# What continuous integration runs, from a clean checkout.
ci:
    .ci/run

# A network of real peers on loopback, in one process.
demo *ARGS:
    cargo run --release -- demo {{ARGS}}

# A million simulated peers that join through the protocol: some five minutes, and 11 GiB; four and 10 with `--cluster 1`.
million *ARGS:
    cargo run --release -- sim run --peers 1000000 --lookups 100000 --broadcasts 1 {{ARGS}}

# The comparison of all topologies: runs what has no result yet, and fills in docs/topologies.md. From nothing, an hour or two on two cores.
topologies *ARGS:
    ln -sf {{env("RINGWEAVE_TEST_DATA")}}/rtt-planetlab-490.gz docs/studies/topologies/
    for study in docs/studies/topologies/*.toml; do cargo run --release -- sim sweep $study --out ${study%.toml}.jsonl {{ARGS}} || true; done
    cargo run --release -- sim compare --page docs/topologies.md

# What docs/benchmarks.md has beside published figures, a JSON object a line: `just published walks`, `runs` or `millions` (16 GiB).
published *PARTS="walks runs millions":
    #!/usr/bin/env bash
    set -euo pipefail
    sim() { echo "ringweave sim $*"; cargo run --release --quiet -- sim "$@" --json; }
    walk() { sim walk --paths 100000 --topology "$@"; }
    chord="chord --peers 65536 --fingers random --targets predecessors"
    kademlia="kademlia --peers 65536 --bucket 1 --links 1"
    pastry="pastry --peers 65536 --digit-bits 1"
    tapestry="tapestry --peers 65536 --digit-bits 1 --slot 1"
    structured="polyring chord kademlia pastry tapestry superpeer"
    for part in {{PARTS}}; do case $part in
    walks)
        for bits in 8 10 12 14 16 17; do walk chord --peers $((1 << bits)) --no-shortcuts; done
        walk pastry --peers 100000
        sim walk --topology kademlia --peers 100000 --targets closest
        for dead in 0 0.3; do
            walk $chord --no-shortcuts --successors 1 --dead $dead
            walk $kademlia --dead $dead
            walk $pastry --leaves 0 --dead $dead
            walk $tapestry --no-surrogates --dead $dead
        done
        walk $chord --dead 0.3
        walk $pastry --leaves 16 --dead 0.3
        walk $tapestry --dead 0.3
        for dead in 0.1 0.2 0.3 0.4 0.5; do
            sim walk --topology chord --peers 10000 --targets keys --paths 20000 --dead $dead --repair 60
        done
        walk chord --peers 100000 ;;
    runs)
        for topology in $structured; do
            sim run --topology $topology --peers 100000 --bootstrap built --lookups 100000
        done ;;
    millions)
        for topology in $structured; do
            sim run --topology $topology --peers 1000000 --bootstrap built --duration 5 --lookups 100000
        done ;;
    esac; done

# Fuzz a decoder for a minute: `just fuzz frame` (needs cargo-fuzz and a nightly toolchain).
fuzz TARGET SECONDS="60":
    cd fuzz && cargo +nightly fuzz run {{TARGET}} -- -max_total_time={{SECONDS}}
