/// What `--version` says after the program's name. Barman reads the version behind the parentheses to decide which
/// servers the program may be used for, so it is the newest that tapster supports.
pub(super) const VERSION: &str = concat!(" (tapster ", env!("CARGO_PKG_VERSION"), ") 18.4");

/// What `--help` says after the program's name.
pub(super) const HELP: &str = " (tapster) receives WAL from a PostgreSQL server into a directory.

It takes the options of PostgreSQL's own program of that name. See \"tapster help receive-wal\" for more.

Usage:
  pg_receivewal -D DIR [OPTION]...

Options:
  -D, --directory=DIR        the archive, which must exist
  -E, --endpos=LSN           end when everything up to this position is received
      --if-not-exists        with --create-slot: an existing slot is no error
  -n, --no-loop              end when the connection is lost
      --no-sync              accepted for compatibility: what is reported as flushed is always synced
  -s, --status-interval=SECS
                             seconds between status reports, 0 for none but those asked for (default: 10)
  -S, --slot=NAME            use this replication slot
      --synchronous          make everything durable and report it at once
  -v, --verbose              print each segment and timeline
  -V, --version              print the version and end; the first argument
  -Z, --compress=METHOD[:DETAIL]
                             none, gzip, lz4 or zstd, with a level; a number alone is a level of gzip
  -?, --help                 print this and end; the first argument

Connection:
  -d, --dbname=CONNSTR       connection string or URI
  -h, --host=HOST            host name, address, or directory of the socket
  -p, --port=PORT            port
  -U, --username=NAME        user
  -w, --no-password          never ask for a password
  -W, --password             ask for a password before connecting

Actions, which end when they are done:
      --create-slot          create the slot that --slot names
      --drop-slot            drop the slot that --slot names

What differs from PostgreSQL's program: receiving ends at --endpos itself and not only after more WAL;
what the server sends is checked before it is stored, and refused where it would leave a hole or mix two
clusters; a silent server is given up after 60 seconds; the next partial segment exists as soon as one is
complete, and may be of any size at the start; SIGTERM is as SIGINT. The exit code is 0 when it was stopped
or came to its end, else 1.";
