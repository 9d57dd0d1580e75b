#!/usr/bin/env bash
# Everything that has to be right, on a fresh Debian or Ubuntu machine with Rust: gets what is needed, then
# checks and tests. The second run needs no network.
#
#   tests/run.sh               all steps
#   tests/run.sh --quick       without the steps about the network: servers, crates, offline
#   tests/run.sh --only STEP   one step
#
# A step ends in one of three ways: passed, FAILED, or FAILED TO CHECK, where something that it needs cannot be
# had on this machine. The summary at the end names every step of the last two kinds; FAILED alone fails the run.
#
# TAPSTER_TEST_MAJORS="15 18" restricts the live tests to these PostgreSQL versions.
# TAPSTER_POSTGRES_DIR says where the servers are kept; tests/postgres/install.sh has the default.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly steps=(
    servers crates format clippy workspaces docs budgets static rust_version licences advisories no_std quickstart doctests
    units offline tests
)

# Every workspace that a step builds.
readonly manifests=(Cargo.toml tests/no_std/Cargo.toml fuzz/Cargo.toml benches/Cargo.toml)

# How a release is built.
readonly static_flags="-C target-feature=+crt-static"

# Each builds on some of the ones before it.
readonly feature_sets=(
    none arbitrary test-server auth session conninfo client tls encrypted-key replication postgres wal compression
    storage archive receiver cli
)

main() {
    local step quick=() wanted=("${steps[@]}")
    for step in "${steps[@]}"; do
        [[ $step == @(servers|crates|offline) ]] || quick+=("$step")
    done
    case ${1:-} in
    "") ;;
    --quick) wanted=("${quick[@]}") ;;
    --only)
        [[ " ${steps[*]} " == *" ${2:-} "* ]] || usage
        wanted=("$2")
        ;;
    *) usage ;;
    esac
    command -v cargo >/dev/null || die "there is no cargo; install Rust from https://rustup.rs"
    command -v cc >/dev/null || die "there is no C compiler to link with; install the package build-essential"

    temporary=$(mktemp -d)
    trap 'rm -rf "$temporary"' EXIT
    failed=() unchecked=() summary=()
    for step in "${wanted[@]}"; do
        run_step "$step"
        [[ $step == crates ]] || continue
        [[ ${failed[*]} != *crates* ]] || break
        # Every crate is here now. A step that wants another one shall fail at once, not some day on a machine
        # without network.
        export CARGO_NET_OFFLINE=true
    done
    summarise
    ((${#failed[@]} == 0))
}

# Runs one step, and adds its outcome to `summary`, and to `failed` or `unchecked`.
run_step() {
    local step=$1 status outcome=passed
    echo "=== $step"
    SECONDS=0
    rm -f "$temporary/not_checked"
    # In a shell of its own, which ends at the first failure; the other steps are run all the same.
    set +e
    (
        set -e
        "step_$step"
    )
    status=$?
    set -e
    if ((status != 0)); then
        outcome=FAILED
        failed+=("$step")
    elif [[ -e $temporary/not_checked ]]; then
        outcome="FAILED TO CHECK: $(<"$temporary/not_checked")"
        unchecked+=("$step")
    fi
    echo "--- $step: $SECONDS s, $outcome"
    summary+=("$(printf '%-13s %5d s  %s' "$step" "$SECONDS" "$outcome")")
}

# not_checked WHY: ends the step, which cannot do its work on this machine.
not_checked() {
    echo "$*" >"$temporary/not_checked"
    exit 0
}

# Says how the steps ended, and after the step `tests`, in a last line, "N passed, N failed, N skipped".
summarise() {
    if ((${#wanted[@]} > 1)); then
        echo "=== summary"
        printf '%s\n' "${summary[@]}"
        echo "$((${#summary[@]} - ${#failed[@]} - ${#unchecked[@]})) of ${#wanted[@]} steps passed"
        ((${#failed[@]} == 0)) || echo "FAILED: ${failed[*]}; one step alone: tests/run.sh --only ${failed[0]}"
        ((${#unchecked[@]} == 0)) || echo "not checked, for the reasons above: ${unchecked[*]}"
        ((${#summary[@]} == ${#wanted[@]})) ||
            echo "not run, as nothing can be built without the crates: ${wanted[*]:${#summary[@]}}"
    fi
    [[ ! -e $temporary/tests ]] || count_tests
}

# Adds up the closing lines of all test programs: "test result: ok. 5 passed; 0 failed; 1 ignored; ...".
count_tests() {
    local passed failures skipped
    read -r passed failures skipped < <(
        awk '/^test result: / { passed += $4; failed += $6; ignored += $8 }
            END { print passed + 0, failed + 0, ignored + 0 }' "$temporary/tests"
    )
    # A test program that is not built, or dies, has no closing line: that is a failure as well.
    [[ $failures != 0 || " ${failed[*]} " != *" tests "* ]] || failures=1
    echo "$passed passed, $failures failed, $skipped skipped"
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
    local manifest
    for manifest in "${manifests[@]}"; do
        # Asks the registry only for what is not here yet.
        cargo fetch --quiet --locked --target "$(host)" --manifest-path "$manifest" || {
            echo "crates that $manifest needs are not in ${CARGO_HOME:-$HOME/.cargo}, and cannot be fetched: see to the" \
                "network and cargo's registry setting, then run again" >&2
            return 1
        }
    done
}

step_format() {
    cargo fmt --check
}

step_clippy() {
    each_feature_set cargo clippy --quiet --locked --all-targets -- -D warnings
}

# The fuzz targets and the benches, which are workspaces of their own.
step_workspaces() {
    local directory
    for directory in fuzz benches; do
        cargo clippy --quiet --locked --all-targets --manifest-path "$directory/Cargo.toml" -- -D warnings
    done
}

step_docs() {
    RUSTDOCFLAGS="-D warnings" each_feature_set cargo doc --quiet --locked --no-deps --lib
    # As docs.rs does, with the label of each item's feature. It has a nightly compiler; the folder is another one because
    # some crates are built anew for that.
    CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/docs.rs RUSTC_BOOTSTRAP=1 RUSTDOCFLAGS="--cfg docsrs -D warnings" \
        cargo doc --quiet --locked --all-features --no-deps --lib
}

step_budgets() {
    tests/budgets.sh
}

# The program as a release is: one file, which holds everything and is not large.
step_static() {
    local limit=$((6 << 20)) target program size dynamic
    target=$(host)
    RUSTFLAGS=$static_flags cargo build --quiet --locked --release --target "$target"
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

# The oldest Rust that Cargo.toml promises to be enough. (Clippy compares the promise with what is used of the
# standard library, but knows neither the language nor the dependencies.)
step_rust_version() {
    local version toolchain
    version=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
    [[ -n $version ]] || die "Cargo.toml declares no rust-version"
    toolchain=$(toolchain_of "$version")
    [[ -n $toolchain ]] ||
        not_checked "Rust $version, the declared rust-version, is not installed: rustup toolchain install $version"
    echo "Rust $version: toolchain $toolchain"
    RUSTUP_TOOLCHAIN=$toolchain cargo build --quiet --locked --all-features --lib --bins
}

# The name of an installed toolchain that is Rust VERSION (1.88 or 1.88.0); nothing where there is none.
toolchain_of() {
    local name said
    while read -r name _; do
        said=$(RUSTUP_TOOLCHAIN=$name rustc --version 2>/dev/null) || continue
        if [[ $said =~ ^rustc\ "$1"(\.[0-9]+)*\  ]]; then
            echo "$name"
            return
        fi
    done < <(rustup toolchain list 2>/dev/null || echo rustc)
}

step_licences() {
    cargo_deny check bans licenses sources
}

step_advisories() {
    cargo_deny fetch db >"$temporary/fetch" 2>&1 || {
        cat "$temporary/fetch"
        not_checked "the database of advisories cannot be fetched"
    }
    cargo_deny check advisories
}

# cargo_deny ARGUMENT...: runs cargo-deny for what is built on this machine, whose crates are here.
cargo_deny() {
    local program
    program=$(tests/cargo_deny.sh) || not_checked "cargo-deny cannot be had: cargo install --locked cargo-deny"
    "$program" --locked --target "$(host)" "$@"
}

step_no_std() {
    tests/no_std/check.sh
    tests/no_std/check.sh auth,session
    tests/no_std/check.sh wal
}

step_quickstart() {
    # It leaves the archive behind, which nobody will look at here.
    local said
    scratch=$(mktemp -d) # not local: the trap comes after the function's end
    trap 'rm -rf "$scratch"' EXIT
    chmod 755 "$scratch"
    # It builds the program; as the step static builds it, that is done already.
    said=$(RUSTFLAGS=$static_flags CARGO_BUILD_TARGET=$(host) TMPDIR=$scratch examples/quickstart.sh 2>&1) || {
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

# A second run needs no network. Shown with the steps that fetch, and with builds of every workspace.
step_offline() {
    local step said without_network=(unshare --net)
    ((EUID == 0)) || without_network+=(--map-current-user)
    "${without_network[@]}" true 2>/dev/null ||
        not_checked "this user may not make a network namespace (unshare --net)"
    for step in servers crates budgets no_std quickstart; do
        said=$(env --unset CARGO_NET_OFFLINE "${without_network[@]}" tests/run.sh --only "$step" 2>&1) || {
            echo "$said"
            echo "the step $step fails without network" >&2
            return 1
        }
        echo "$step: needs no network"
    done
}

step_tests() {
    # A data directory is a thousand files, which memory takes ten times faster than some disks.
    if [[ -z ${TMPDIR:-} ]] && memory_disk_fits; then
        export TMPDIR=/dev/shm
    fi
    cargo test --locked --no-fail-fast --lib --bins --tests --examples 2>&1 | tee "$temporary/tests"
}

# The platform that cargo builds for here.
host() {
    rustc --version --verbose | sed -n 's/^host: //p'
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
