use core::net::IpAddr;

use super::Lsn;

/// What the user can do about an error. The `advice()` method of an error type returns it.
///
/// Advice is data, not text: it names no program and no option. The program that shows the error words the
/// advice in terms of its own options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Advice {
    /// Give a password: the server wants one, and none is known.
    GivePassword,
    /// Find out where the password that the server refused came from.
    CheckPassword,
    /// Let the role log in: `pg_hba.conf` has no line for it, or the role does not exist or may not log in. What
    /// refused the role, such as a pooler, does not say which of them.
    AllowLogin,
    /// Let the role in by a line of `pg_hba.conf`: no line fits, or the first that fits refuses.
    AddHbaLine {
        /// The client's address; `None` over a Unix socket.
        client: Option<IpAddr>,
        /// Whether the session was to be one for physical replication, which needs a line of its own.
        replication: bool,
    },
    /// Let the role in by another method, or as the user that the line of `pg_hba.conf` expects: a method that asks
    /// for no password (peer, ident, cert) did not take the user, or a service outside of the server refused.
    MapUser {
        /// The client's address; `None` over a Unix socket.
        client: Option<IpAddr>,
        /// Whether the session was to be one for physical replication.
        replication: bool,
    },
    /// Create the role, or let it log in.
    LetRoleLogIn {
        /// Whether the role exists; `None` if the server did not say so in English.
        exists: Option<bool>,
        /// Whether the session was to be one for physical replication.
        replication: bool,
    },
    /// Give the role the attribute `REPLICATION`.
    AllowReplication,
    /// Grant the role the privilege `CONNECT` on the database.
    GrantConnect,
    /// Let the database take connections, or name another one.
    AllowConnections,
    /// End other sessions of the role, or raise the role's connection limit.
    RaiseRoleLimit,
    /// End other sessions in the database, or raise the database's connection limit.
    RaiseDatabaseLimit,
    /// End other sessions, or raise `max_connections`.
    FreeConnection,
    /// Set `max_wal_senders`, which is 0, and `wal_level`, and restart the server: it admits no replication at all.
    AllowWalSenders,
    /// End another receiver or standby, or raise `max_wal_senders`.
    FreeWalSender,
    /// Name a database that exists.
    NameDatabase,
    /// Find out which host and port were used, and why: nothing answers there.
    CheckAddress,
    /// Grant the role the privilege that the server found missing.
    GrantPrivilege,
    /// Connect to the server itself: a pooler answered, and it refuses replication connections.
    BypassPooler,
    /// Leave out the startup parameter that a pooler refuses, or make the pooler ignore it.
    LeaveOutParameter,
    /// Grant the role the privileges that backups need.
    GrantBackupPrivileges,
    /// Create the replication slot, which does not exist.
    CreateSlot,
    /// Wait for the replication slot: another receiver uses it, or the server has not yet noticed that the
    /// slot's last receiver is gone (`wal_sender_timeout`).
    AwaitSlot,
    /// Name a physical slot: the one that was named is logical, and may be in use by another program.
    NamePhysicalSlot,
    /// Find out which server the connection string leads to, or use another directory: the archive belongs to
    /// another cluster.
    CheckCluster,
    /// Use another directory: the cluster was initialised again, with another segment size.
    SeparateNewCluster,
    /// Move the file away if it is not of this cluster, or use another directory: the file stands in the place of WAL
    /// to come.
    MoveFileAway,
    /// Use another directory: the server was restored to an earlier state, or is another one.
    SeparateOlderServer,
    /// Use a new directory and take a new base backup: the server was promoted before it had all WAL that is
    /// archived.
    StartAnewAfterPromotion,
    /// Use a new directory and take a new base backup: the server's WAL differs from the archive's.
    StartAnewAfterLostWal,
    /// Take a new base backup, and use a new directory or accept the gap: backups taken before now cannot be
    /// recovered beyond `next`.
    AcceptGap {
        /// The end of the WAL before the gap.
        next: Lsn,
    },
    /// Drop the slot and create it again, take a new base backup, and use a new directory or accept the gap:
    /// the server has removed WAL that the slot should have kept.
    ReplaceSlot,
    /// Look at the damaged WAL on the server, or store it unchecked.
    InspectServerWal,
    /// Verify the archive. Then use a new directory and take a new base backup, or move the damaged segments
    /// away with everything newer.
    VerifyArchive,
}
