#!/usr/bin/env bash
# Counts the crates that a build of tapster brings along, and compares them with what we allow ourselves.
set -euo pipefail
cd "$(dirname "$0")/.."

# FEATURES LIMIT
readonly budgets=(
    "none    0"
    "wal     3"
    "auth    16"
    "session 16"
    "client  26"
    "tls     40"
    "cli     92"
)

# The normal dependencies of a feature set, one "NAME VERSION" a line.
crates() {
    local features=$1
    [[ $features != none ]] || features=
    cargo tree --locked --edges normal --no-default-features --features "$features" \
        --prefix none --no-dedupe --format '{p}' |
        awk '$1 != "tapster" { print $1, $2 }' | sort -u
}

exceeded=0
printf '%-10s %7s %6s\n' features crates limit
for budget in "${budgets[@]}"; do
    read -r features limit <<<"$budget"
    list=$(crates "$features")
    count=$(grep -c . <<<"$list" || true)
    printf '%-10s %7d %6d\n' "$features" "$count" "$limit"
    if ((count > limit)); then
        exceeded=1
        paste -sd ' ' <<<"$list" | sed 's/^/  too many: /'
    fi
done
exit $exceeded
