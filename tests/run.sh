#!/usr/bin/env bash
# Everything that has to be right, on a fresh Debian or Ubuntu machine with Rust: gets what is needed, then
# checks and tests. The second run needs no network.
#
#   tests/run.sh               all steps
#   tests/run.sh --quick       without the two that fetch: servers, crates
#   tests/run.sh --only STEP   one step
#
# TAPSTER_TEST_MAJORS="15 18" restricts the live tests to these PostgreSQL versions.
# TAPSTER_POSTGRES_DIR says where the servers are kept; tests/postgres/install.sh has the default.
set -euo pipefail
cd "$(dirname "$0")/.."

# The tests come last, so that the output ends with their summary.
readonly steps=(servers crates format clippy docs budgets static licences no_std quickstart doctests units tests)

# Each adds to the ones before it, but `postgres` and `wal` to each other.
readonly feature_sets=(none auth session conninfo client tls encrypted-key replication postgres wal cli)

main() {
    local step wanted=("${steps[@]}")
    case ${1:-} in
    "") ;;
    --quick) wanted=("${steps[@]:2}") ;;
    --only)
        [[ " ${steps[*]} " == *" ${2:-} "* ]] || usage
        wanted=("$2")
        ;;
    *) usage ;;
    esac
    command -v cargo >/dev/null || die "there is no cargo; install Rust from https://rustup.rs"
    command -v cc >/dev/null || die "there is no C compiler to link with; install the package build-essential"

    local status failed=()
    for step in "${wanted[@]}"; do
        echo "=== $step"
        SECONDS=0
        # In a shell of its own, which ends at the first failure; the other steps are run all the same.
        set +e
        (
            set -e
            "step_$step"
        )
        status=$?
        set -e
        ((status == 0)) || failed+=("$step")
        [[ $step == tests ]] || echo "--- $step: $SECONDS s, $( ((status == 0)) && echo passed || echo FAILED)"
        # What cargo needs has been fetched, or is here, or cannot be had.
        export CARGO_NET_OFFLINE=true
    done
    ((${#failed[@]} == 0)) || {
        echo "tests/run.sh: failed: ${failed[*]}; one alone: tests/run.sh --only ${failed[0]}" >&2
        exit 1
    }
}

usage() {
    die "usage: tests/run.sh [--quick | --only STEP]; the steps are: ${steps[*]}"
}

die() {
    echo "tests/run.sh: $*" >&2
    exit 2
}

step_servers() {
    local majors
    read -ra majors <<<"${TAPSTER_TEST_MAJORS:-}"
    tests/postgres/install.sh "${majors[@]}"
}

step_crates() {
    # Asks the registry only for what is not here yet.
    cargo fetch --quiet --locked ||
        echo "the crates could not all be fetched; going on with those that are here" >&2
}

step_format() {
    cargo fmt --check
}

step_clippy() {
    each_feature_set cargo clippy --quiet --locked --all-targets -- -D warnings
}

step_docs() {
    RUSTDOCFLAGS="-D warnings" each_feature_set cargo doc --quiet --locked --no-deps --lib
}

step_budgets() {
    tests/budgets.sh
}

# The program as a release is: one file, which holds everything and is not large.
step_static() {
    local limit=$((4 << 20)) target program size dynamic
    target=$(rustc --version --verbose | sed -n 's/^host: //p')
    RUSTFLAGS="-C target-feature=+crt-static" cargo build --quiet --locked --release --target "$target"
    program=${CARGO_TARGET_DIR:-target}/$target/release/tapster
    size=$(stat --format=%s "$program")
    "$program" --version
    echo "$size bytes of $limit"
    ((size <= limit))
    dynamic=$(readelf --dynamic "$program")
    [[ $dynamic != *NEEDED* ]] || {
        echo "$dynamic"
        return 1
    }
}

step_licences() {
    if cargo deny --version >/dev/null 2>&1; then
        cargo deny --offline --all-features check bans licenses sources
    else
        echo "cargo-deny is not installed: deny.toml is not checked"
    fi
}

step_no_std() {
    tests/no_std/check.sh
    tests/no_std/check.sh auth,session
}

step_quickstart() {
    # It leaves the archive behind, which nobody will look at here.
    local said
    scratch=$(mktemp -d) # not local: the trap comes after the function's end
    trap 'rm -rf "$scratch"' EXIT
    chmod 755 "$scratch"
    said=$(TMPDIR=$scratch examples/quickstart.sh 2>&1) || {
        echo "$said"
        return 1
    }
    tail -n 1 <<<"$said"
}

step_doctests() {
    cargo test --quiet --locked --doc
}

# The unit tests of the smaller builds; those of the whole are among the tests.
step_units() {
    each_feature_set cargo test --quiet --locked --lib
}

step_tests() {
    # A data directory is a thousand files, which memory takes ten times faster than some disks.
    if [[ -z ${TMPDIR:-} ]] && memory_disk_fits; then
        export TMPDIR=/dev/shm
    fi
    cargo test --locked --no-fail-fast --lib --bins --tests --examples
}

# Whether /dev/shm has room for the clusters of all tests at once, and lets programs be run.
memory_disk_fits() {
    local free_kib
    free_kib=$(df --output=avail -k /dev/shm 2>/dev/null | tail -n 1)
    [[ -w /dev/shm && ${free_kib:-0} -ge $((4 * 1024 * 1024)) ]] &&
        [[ $(findmnt --noheadings --output OPTIONS --target /dev/shm) != *noexec* ]]
}

# each_feature_set cargo COMMAND... [-- ...]: runs it for every feature set.
each_feature_set() {
    local features
    for features in "${feature_sets[@]}"; do
        echo "features: $features"
        [[ $features != none ]] || features=
        "$1" "$2" --no-default-features --features "$features" "${@:3}"
    done
}

main "$@"
