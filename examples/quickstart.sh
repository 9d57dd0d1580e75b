#!/usr/bin/env bash
# The main job on a throwaway server: builds tapster, starts a PostgreSQL that asks for a SCRAM password, makes
# WAL, receives it over tapster's own protocol, and compares every segment with the server's own.
#
# Needs Rust and a Debian or Ubuntu machine; installs PostgreSQL's package if there is none. It leaves
# nothing behind but the archive, and prints the archive's path at the end.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly segments=24

step() { printf '\n==> %s\n' "$*"; }
die() {
    echo "quickstart: $*" >&2
    exit 1
}

command -v cargo >/dev/null || die "there is no cargo; install Rust from https://rustup.rs"
command -v cc >/dev/null || die "there is no C compiler to link with; install the package build-essential"

step "Building tapster"
cargo build --release --locked || die "the build failed; the messages above say why"
tapster=${CARGO_TARGET_DIR:-target}/${CARGO_BUILD_TARGET:+$CARGO_BUILD_TARGET/}release/tapster

step "Looking for PostgreSQL"
bindir=$(tests/postgres/install.sh --packaged)
"$bindir/postgres" --version

work=$(mktemp -d "${TMPDIR:-/tmp}/tapster-quickstart.XXXXXX")
archive=$work/archive
data=$work/server/data
mkdir "$archive" "$work/server"

# PostgreSQL refuses to run as root.
server_user=()
if ((EUID == 0)); then
    user=postgres
    id "$user" >/dev/null 2>&1 || user=nobody
    chmod 755 "$work"
    chown "$user" "$work/server"
    server_user=(setpriv --reuid "$user" --regid "$(id -g "$user")" --clear-groups --)
fi

server_pid=
receiver_pid=
clean_up() {
    [[ -z $receiver_pid ]] || kill "$receiver_pid" 2>/dev/null || true
    [[ -z $server_pid ]] || { kill -INT "$server_pid" 2>/dev/null && wait "$server_pid" 2>/dev/null; } || true
    rm -rf "$work/server"
}
trap clean_up EXIT

step "Starting a server with SCRAM authentication in $work/server"
export PGPASSWORD=$RANDOM$RANDOM$RANDOM$RANDOM
printf '%s\n' "$PGPASSWORD" >"$work/server/password"
((EUID != 0)) || chown "$user" "$work/server/password"
"${server_user[@]}" "$bindir/initdb" --pgdata="$data" --username=tapster --auth=scram-sha-256 \
    --pwfile="$work/server/password" --wal-segsize=1 --no-sync >"$work/server/initdb.log" 2>&1 ||
    die "initdb failed: $(tail -n 3 "$work/server/initdb.log")"
rm "$work/server/password"
"${server_user[@]}" "$bindir/postgres" -D "$data" -k "$work/server" -c listen_addresses= -c fsync=off \
    -c wal_keep_size=1GB >"$work/server/log" 2>&1 &
server_pid=$!
readonly connection="host=$work/server user=tapster dbname=postgres"
for ((i = 0; ; i++)); do
    "$bindir/psql" -qAt "$connection" -c "SELECT 1" >/dev/null 2>&1 && break
    ((i < 150)) && kill -0 "$server_pid" 2>/dev/null || die "the server does not start: $(tail -n 3 "$work/server/log")"
    sleep 0.2
done
"$tapster" status "$connection"

step "Receiving into $archive, with a slot"
"$tapster" slot create "$connection" quickstart

step "Making $segments segments of WAL"
sql="SELECT pg_logical_emit_message(false, 'quickstart', repeat(md5(random()::text), 28000)), pg_switch_wal();"
for ((i = 1; i <= segments; i++)); do
    "$bindir/psql" -qAt "$connection" -c "$sql" >/dev/null || die "psql failed"
    # The receiver starts halfway, while the server writes.
    if ((i == segments / 2)); then
        "$tapster" receive-wal "$connection" -D "$archive" -S quickstart --verbose 2>"$work/receiver.log" &
        receiver_pid=$!
    fi
    printf '\r    %d of %d' "$i" "$segments"
done
end=$("$bindir/psql" -qAt "$connection" -c "SELECT pg_current_wal_lsn()")
echo

step "Waiting until the archive has everything up to $end"
kill -INT "$receiver_pid"
wait "$receiver_pid" || die "the receiver failed: $(tail -n 3 "$work/receiver.log")"
receiver_pid=
timeout 60 "$tapster" receive-wal "$connection" -D "$archive" -S quickstart --verbose --endpos "$end" \
    2>>"$work/receiver.log" || die "the receiver failed: $(tail -n 3 "$work/receiver.log")"
cat "$work/receiver.log"

step "Comparing with the server's own files"
total=0 same=0
for file in "$archive"/????????????????????????; do
    total=$((total + 1))
    if cmp --quiet "$file" "$data/pg_wal/${file##*/}"; then
        same=$((same + 1))
    else
        echo "    ${file##*/} differs"
    fi
done
echo "    the archive is $archive"
echo "    $same of $total segments identical"
((same == total && total >= segments)) || die "not every segment is there and identical"
