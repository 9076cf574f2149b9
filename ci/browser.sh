#!/bin/sh
# The report's pages in headless Chromium. Needs node and chromium (apt-get install -y nodejs chromium); fails without them,
# where `cargo test` alone skips with a reason.
set -eu
cd "$(dirname "$0")/.."
TICKETLENS_NEED_BROWSER=1 cargo test --test suite report::browser -- --nocapture
