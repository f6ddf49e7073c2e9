# cargo install just; each recipe is one or two plain commands.

default: check test

# Throughput and clone time beside a plain file.
bench:
    cargo bench

# Formatting, lints, documentation.
check:
    cargo fmt --check
    cargo clippy --workspace --all-targets -- -D warnings
    RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps

# Everything that a commit must pass.
test:
    cargo test --workspace
    cargo test -p offshoot --no-default-features

# A real image: import, snapshot, clones, kill, fsck.
demo:
    cargo run --release -- demo

# Outside programs (qemu, libnbd, fio, file systems) against the release binary.
interop:
    cargo build --release
    tests/interop/run

# Kills, faults at each call that writes, file systems shut down, failing disks, limits; root.
rigs:
    cargo build --release
    tests/rigs/run

# Lines per file, long functions.
sizes:
    cargo test --test tidy sizes_are_printed -- --nocapture

# Writes the tables of docs/format.md and the golden store anew.
golden:
    UPDATE=1 cargo test --test format

# Licences and banned crates; needs cargo-deny.
deny:
    cargo deny check bans licenses sources

ci:
    .ci/run
