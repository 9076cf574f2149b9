#!/usr/bin/env bash
# The Rust version that Cargo.toml states builds the crate, and no dependency asks for a later one.
set -euo pipefail
cd "$(dirname "$0")/.."
stated=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
cargo metadata --locked --format-version 1 | python3 -c '
import json, sys
number = lambda text: tuple(map(int, (text + ".0").split(".")[:2]))
stated = number(sys.argv[1])
late = [p["name"] + " " + p["rust_version"] for p in json.load(sys.stdin)["packages"]
        if p.get("rust_version") and number(p["rust_version"]) > stated]
sys.exit("dependencies need a later Rust than %s: %s" % (sys.argv[1], ", ".join(late)) if late else 0)' "$stated"
if rustc --version | grep -q "^rustc $stated\."; then
  cargo check --locked --all-targets
  echo "Rust $stated, as stated: checked"
elif command -v rustup >/dev/null && rustup toolchain install "$stated" --profile minimal --no-self-update; then
  cargo "+$stated" check --locked --all-targets
  echo "Rust $stated, installed for this: checked"
else
  echo "skipped: Rust $stated is not at hand (this is $(rustc --version))"
fi
