#!/usr/bin/env bash
# Proves that the layers below `conninfo` need no standard library: builds a program that has none, with
# these layers in it, and runs it.
#
#   tests/no_std/check.sh                  types and codec
#   tests/no_std/check.sh auth,session     these features as well
set -euo pipefail
cd "$(dirname "$0")"

features=${1:-}
cargo run --release --quiet --locked --features "$features"

if [[ -z $features ]]; then
    dependencies=$(cargo tree --manifest-path ../../Cargo.toml -e normal --no-default-features --prefix none)
    (($(wc -l <<<"$dependencies") == 1)) || {
        echo "no_std: types and codec have dependencies:" >&2
        echo "$dependencies" >&2
        exit 1
    }
fi
