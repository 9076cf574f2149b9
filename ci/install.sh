#!/usr/bin/env bash
# What the gate needs beyond the Rust toolchain. Chromium serves the browser test, which skips with a reason without it.
set -u
if [ "${CI:-}" = true ] && ! command -v chromium >/dev/null 2>&1 && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium) >/tmp/ticketlens-apt.log 2>&1 ||
    echo "chromium could not be installed: the browser test will say that it is skipped"
fi
exit 0
