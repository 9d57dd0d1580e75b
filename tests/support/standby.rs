//! Standbys, and copies of a running server.

use std::fs;

use super::builder::archive_command;
use super::cluster::{Cluster, psql};
use super::servers::give_to_server_user;
use super::wait::wait_until;

impl Cluster {
    /// A running standby that streams from this server, which keeps running and keeps its clients.
    ///
    /// Only the packaged server has a `pg_basebackup`, so this is the low-level backup of the manual: one
    /// session starts it, copies the files and stops it.
    #[track_caller]
    pub fn standby(&self) -> Self {
        self.standby_with(&[])
    }

    /// As [`standby`](Self::standby), with additional settings.
    #[track_caller]
    pub fn standby_with(&self, settings: &[(&str, &str)]) -> Self {
        let standby = self.backup();
        standby.follow(self, settings);
        standby.start_on_free_port();
        standby
    }

    /// A copy of this server, taken while it runs, to be made a standby or to be recovered.
    #[track_caller]
    pub fn backup(&self) -> Self {
        let backup = Self::new(self.server().clone(), self.segment_size());
        self.copy_while_running(&backup);
        for name in ["postmaster.pid", "postmaster.opts"] {
            drop(fs::remove_file(backup.data_dir().join(name)));
        }
        // The slots belong to the primary.
        for slot in fs::read_dir(backup.data_dir().join("pg_replslot")).expect("it is there").flatten() {
            fs::remove_dir_all(slot.path()).expect("it is ours");
        }
        fs::create_dir(backup.archive_dir()).expect("the directory is ours");
        give_to_server_user(&backup.archive_dir());
        backup
    }

    /// Recovers a backup as far as `restore_command` finds WAL, on the newest timeline, and waits until the
    /// server accepts writes. The error says why the server did not start.
    pub fn recover(&self, restore_command: &str) -> Result<(), String> {
        // The recovery must take all WAL from the archive, none from the copy.
        for entry in fs::read_dir(self.data_dir().join("pg_wal")).expect("it is there").flatten() {
            drop(fs::remove_file(entry.path()));
        }
        let recovery = format!(
            "restore_command = '{}'\nrecovery_target_timeline = 'latest'\n",
            restore_command.replace('\'', "''")
        );
        let mut conf = fs::read_to_string(self.data_dir().join("postgresql.conf")).expect("it is there");
        conf.push_str("\n# of the recovery\narchive_mode = off\n");
        if self.major() < 12 {
            self.write_file("recovery.conf", recovery.as_bytes());
        } else {
            conf.push_str(&recovery);
            self.write_file("recovery.signal", b"");
        }
        self.write_file("postgresql.conf", conf.as_bytes());
        self.try_start_on_free_port()?;
        wait_until(core::time::Duration::from_secs(60), "the recovery has ended", || {
            self.sql("SELECT pg_is_in_recovery()").as_deref() == Ok("f")
        });
        Ok(())
    }

    /// Writes the configuration of a standby of `primary`; it takes effect at the next start.
    pub fn follow(&self, primary: &Self, settings: &[(&str, &str)]) {
        let quote = |value: &str| format!("'{}'", value.replace('\'', "''"));
        let primary_conninfo = quote(&primary.socket_conninfo("repl"));
        let mut conf = fs::read_to_string(self.data_dir().join("postgresql.conf")).expect("it is there");
        conf.push_str("\n# of the standby\nhot_standby = on\n");
        // If the standby archives as its primary does, it must not overwrite the primary's files.
        let archive_command = quote(&archive_command(&self.archive_dir()));
        conf.push_str(&format!("archive_command = {archive_command}\n"));
        for (name, value) in settings {
            conf.push_str(&format!("{name} = {}\n", quote(value)));
        }
        let recovery =
            format!("primary_conninfo = {primary_conninfo}\nrecovery_target_timeline = 'latest'\n");
        if self.major() < 12 {
            self.write_file("recovery.conf", format!("standby_mode = on\n{recovery}").as_bytes());
        } else {
            conf.push_str(&recovery);
            self.write_file("standby.signal", b"");
        }
        self.write_file("postgresql.conf", conf.as_bytes());
    }

    /// Waits until the standby has replayed all that `primary` has written so far.
    #[track_caller]
    pub fn wait_for_replay_of(&self, primary: &Self) {
        let end = primary.sql("SELECT pg_current_wal_lsn()").unwrap();
        let behind = format!("SELECT pg_last_wal_replay_lsn() >= '{end}'");
        wait_until(core::time::Duration::from_secs(30), "the standby has replayed", || {
            self.sql(&behind).as_deref() == Ok("t")
        });
    }

    fn copy_while_running(&self, copy: &Self) {
        let (start, stop) = if self.major() < 15 {
            ("pg_start_backup('tests', true, false)", "pg_stop_backup(false, false)")
        } else {
            ("pg_backup_start('tests', true)", "pg_backup_stop(false)")
        };
        // Files may vanish while cp copies them; the recovery from the backup label repairs that.
        let cp =
            format!("cp -a --reflink=auto '{}' '{}' 2>&1", self.data_dir().display(), copy.dir().display());
        let script =
            format!("\\o /dev/null\nSELECT {start};\n\\! {cp}\n\\o\nSELECT labelfile FROM {stop};\n");
        let said = psql(&self.socket_conninfo("postgres"), &script).unwrap();
        let label = said.find("START WAL LOCATION").map(|at| &said[at..]);
        let label = label.unwrap_or_else(|| panic!("no backup label in:\n{said}"));
        copy.write_file("backup_label", format!("{}\n", label.trim_end()).as_bytes());
    }
}
