# To be sourced by a script that runs the program beside Python's packages: `beside NAME PACKAGES…`, with the packages as they are
# imported. Sets python (from PYTHON), TICKETLENS (built if it is not set) and scratch, a folder that goes with the script. Without
# the packages the script ends, with a line that says so.
beside() {
    name=$1
    shift
    python=${PYTHON:-python3}
    packages=$(printf ', %s' "$@")
    packages=${packages#, }
    if ! "$python" -c "import $packages" 2>/dev/null; then
        echo "$name: skipped, $python has not all of $packages (set PYTHON)"
        exit 0
    fi
    if [ -z "${TICKETLENS:-}" ]; then
        cargo build --quiet --bin ticketlens
        TICKETLENS=${CARGO_TARGET_DIR:-target}/debug/ticketlens
    fi
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
}
