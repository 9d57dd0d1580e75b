"""What an installed Barman says of a server, as JSON; for tests/barman_side_by_side.rs.

    members.py values DSN SLOT   every read-only member, and the streaming connection's status
    members.py counts DSN SLOT   the same and the acting members, each between a statement that names it and
                                 one that says done
"""

import datetime
import decimal
import json
import sys

import barman.output  # barman.postgres cannot be imported first
import psycopg2
from barman import postgres

READING = """
    server_version server_txt_version server_major_version minimal_txt_version is_minimal_postgres_version name_map
    has_connection is_in_recovery is_superuser has_backup_privileges has_checkpoint_privileges
    has_monitoring_privileges current_xlog_info current_xlog_file_name current_xlog_location xlog_segment_size
    archive_timeout checkpoint_timeout current_size get_systemid get_tablespaces get_configuration_files
    get_archiver_stats get_replication_slot get_replication_stats get_synchronous_standby_names fetch_remote_status
""".split()
ACTING = """
    create_restore_point checkpoint switch_wal start_concurrent_backup stop_concurrent_backup
""".split()
ARGUMENTS = {
    "get_replication_stats": (postgres.PostgreSQLConnection.ANY_STREAMING_CLIENT,),
    "create_restore_point": ("a point",),
    "start_concurrent_backup": ("a label",),
}


def plain(value):
    """Rows and numbers of the driver as JSON has them; times as ISO 8601 in UTC."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if hasattr(value, "keys"):
        return {key: plain(value[key]) for key in value.keys()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, datetime.datetime):
        utc = value.astimezone(datetime.timezone.utc)
        return utc.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if isinstance(value, datetime.timedelta):
        return str(value)
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value


def ask(connection, member, slot):
    if member == "get_replication_slot":
        return connection.get_replication_slot(slot) if slot else None
    value = getattr(connection, member)
    return value(*ARGUMENTS.get(member, ())) if callable(value) else value


def main(mode, dsn, slot):
    connection = postgres.PostgreSQLConnection(dsn, slot_name=slot or None, immediate_checkpoint=True)
    marks = psycopg2.connect(dsn)
    marks.autocommit = True
    mark = marks.cursor().execute
    members, errors = {}, {}
    for member in READING + (ACTING if mode == "counts" else []):
        if mode == "counts":
            if not member.startswith("stop"):
                connection.close()
                connection.connect()
            mark("SELECT 'next: " + member + "'")
        try:
            members[member] = plain(ask(connection, member, slot))
        except Exception as error:  # any: its class is the answer
            members[member] = None
            errors[member] = type(error).__name__
        if mode == "counts":
            mark("SELECT 'done'")
    streaming = postgres.StreamingConnection(dsn)
    members["streaming.fetch_remote_status"] = plain(streaming.fetch_remote_status())
    print(json.dumps({"members": members, "errors": errors}))
    for each in (connection, marks, streaming):
        each.close()


main(*sys.argv[1:])
