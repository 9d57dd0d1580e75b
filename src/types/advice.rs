use super::Lsn;

/// What somebody can do about an error: the `advice()` of an error type gives it.
///
/// It is a fact and no text: it names no program and no option. Whoever shows it to people says it in the words of
/// the program that they use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Advice {
    /// Give a password: the server wants one, and none is known.
    GivePassword,
    /// Find out where the password came from, which the server refused.
    CheckPassword,
    /// Let the role log in: a line of `pg_hba.conf` is missing, or the role is.
    AllowLogin,
    /// Name a database that exists.
    NameDatabase,
    /// Find out which host and port were used, and why: nothing answers there.
    CheckAddress,
    /// Grant the role what the server refused.
    GrantPrivilege,
    /// Grant the role what backups need.
    GrantBackupPrivileges,
    /// Create the replication slot, which does not exist.
    CreateSlot,
    /// Wait for the replication slot: another receiver uses it, or the server has not noticed yet that one is gone
    /// (`wal_sender_timeout`).
    AwaitSlot,
    /// Find out which server the connection string leads to, or use another directory: the archive is another
    /// cluster's.
    CheckCluster,
    /// Use another directory: the cluster was made anew with another segment size.
    SeparateNewCluster,
    /// Use another directory: the server was restored to an earlier state, or is another one.
    SeparateOlderServer,
    /// Use a new directory and take a new base backup: the server was promoted before it had all WAL that is
    /// archived.
    StartAnewAfterPromotion,
    /// Use a new directory and take a new base backup: the server has other WAL than the archive.
    StartAnewAfterLostWal,
    /// Take a new base backup, and use a new directory or accept the gap: backups older than now cannot be
    /// recovered beyond this position.
    AcceptGap {
        /// The end of the WAL before the gap.
        next: Lsn,
    },
    /// Drop the slot and create it again, take a new base backup, and use a new directory or accept the gap: the
    /// server has removed WAL that the slot was to keep.
    ReplaceSlot,
    /// Look at the damaged WAL on the server, or store it unchecked.
    InspectServerWal,
    /// Verify the archive; then use a new directory and take a new base backup, or move the damaged segments away
    /// with everything newer.
    VerifyArchive,
}
