//! The library's advice about an error, put into words that fit the program in use.

use std::borrow::Cow;

use tapster::types::{Advice, Lsn};

/// The program the user called. A hint may name only this program's options without naming the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Personality {
    Tapster,
    PgReceivewal,
}

/// What the user can do about a failure.
#[derive(Clone, Debug)]
pub(super) enum Hint {
    /// Advice of the library.
    Advice(Advice),
    /// Something only the command knows. Printed wherever the message is printed.
    Particular(String),
    /// A command that gives more information. Printed only with the program's last error.
    General(&'static str),
}

impl Hint {
    /// The text, if this program has words for it.
    pub(super) fn text(&self, personality: Personality) -> Option<Cow<'static, str>> {
        match self {
            Self::Advice(advice) => match personality {
                Personality::Tapster => for_tapster(*advice),
                Personality::PgReceivewal => for_pg_receivewal(*advice),
            },
            Self::Particular(text) => Some(text.clone().into()),
            Self::General(text) => Some((*text).into()),
        }
    }

    /// Whether the hint is printed only with the program's last error, and not with every message.
    pub(super) fn is_general(&self) -> bool {
        match self {
            Self::Advice(advice) => is_general(*advice),
            Self::Particular(_) => false,
            Self::General(_) => true,
        }
    }
}

/// Whether the advice only points to a command that gives more information.
fn is_general(advice: Advice) -> bool {
    matches!(
        advice,
        Advice::CheckPassword
            | Advice::AllowLogin
            | Advice::NameDatabase
            | Advice::CheckAddress
            | Advice::GrantPrivilege
    )
}

fn for_tapster(advice: Advice) -> Option<Cow<'static, str>> {
    let text = match advice {
        Advice::GivePassword => {
            "give the password by PGPASSWORD, in the connection string, or by a line of the password file \
             (~/.pgpass or PGPASSFILE)"
        }
        Advice::CheckPassword => "\"tapster conninfo\" shows where the password comes from",
        Advice::AllowLogin => {
            "\"tapster check\" prints the line of pg_hba.conf, or the role, that is missing"
        }
        Advice::NameDatabase => "name one that exists, in the connection string or with -d",
        Advice::CheckAddress => "\"tapster conninfo\" shows which host and port are used, and why",
        Advice::GrantPrivilege => "\"tapster check\" prints what to grant",
        Advice::GrantBackupPrivileges => "\"tapster check --for backup\" prints what to grant",
        Advice::CreateSlot => "create the slot with --create-slot or \"tapster slot create\"",
        Advice::AwaitSlot => {
            "another receiver uses the slot, or the server has not noticed yet that one is gone (wal_sender_timeout)"
        }
        Advice::CheckCluster => "check which server the connection string leads to, or use another directory",
        Advice::MoveFileAway => {
            "move that file to another directory if it does not belong here, or use another directory"
        }
        Advice::SeparateNewCluster => {
            "the cluster was made anew with another segment size; use another directory for it"
        }
        Advice::SeparateOlderServer => {
            "the server was restored to an earlier state, or is not the one this archive comes from; use another \
             directory for it"
        }
        Advice::StartAnewAfterPromotion => {
            "the server was promoted before it had all WAL that is archived here; use a new directory for it and take \
             a new base backup"
        }
        Advice::StartAnewAfterLostWal => {
            "the server was restored to an earlier state, has lost WAL in a crash, or is not the one this archive \
             comes from; use a new directory for it and take a new base backup"
        }
        Advice::AcceptGap { next } => return Some(gap(next, "--accept-gap").into()),
        Advice::ReplaceSlot => {
            "backups older than now may not be recoverable to the present; drop the slot and create it again (tapster \
             slot drop, slot create), take a new base backup, and use a new directory, or go on in this one with \
             --accept-gap"
        }
        Advice::InspectServerWal => {
            "look at it with pg_waldump on the server; --no-check-wal stores it as it is"
        }
        Advice::VerifyArchive => {
            "tapster verify tells which; use a new directory and take a new base backup, or look after the disk and \
             move all of them away with the newer ones and with the state file"
        }
        _ => return None,
    };
    Some(text.into())
}

/// pg_receivewal has no commands that give more information, and no options to accept a gap or damage.
fn for_pg_receivewal(advice: Advice) -> Option<Cow<'static, str>> {
    let text = match advice {
        _ if is_general(advice) => return None,
        Advice::CreateSlot => "create the slot with --create-slot",
        Advice::AcceptGap { next } => return Some(gap(next, "\"tapster receive-wal --accept-gap\"").into()),
        Advice::ReplaceSlot => {
            "backups older than now may not be recoverable to the present; drop the slot and create it again \
             (--drop-slot, --create-slot), take a new base backup, and use a new directory, or go on in this one with \
             \"tapster receive-wal --accept-gap\""
        }
        Advice::InspectServerWal => {
            "look at it with pg_waldump on the server; \"tapster receive-wal --no-check-wal\" stores it as it is"
        }
        _ => return for_tapster(advice),
    };
    Some(text.into())
}

fn gap(next: Lsn, option: &str) -> String {
    format!(
        "backups older than now cannot be recovered beyond {next}; take a new one, and use a new directory, or go on \
         in this one with {option}, which notes the gap there"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Advice; 19] = [
        Advice::GivePassword,
        Advice::CheckPassword,
        Advice::AllowLogin,
        Advice::NameDatabase,
        Advice::CheckAddress,
        Advice::GrantPrivilege,
        Advice::GrantBackupPrivileges,
        Advice::CreateSlot,
        Advice::AwaitSlot,
        Advice::CheckCluster,
        Advice::SeparateNewCluster,
        Advice::MoveFileAway,
        Advice::SeparateOlderServer,
        Advice::StartAnewAfterPromotion,
        Advice::StartAnewAfterLostWal,
        Advice::AcceptGap { next: Lsn::new(0x300_0000) },
        Advice::ReplaceSlot,
        Advice::InspectServerWal,
        Advice::VerifyArchive,
    ];

    #[test]
    fn tapster_has_words_for_every_advice() {
        for advice in ALL {
            assert!(for_tapster(advice).is_some(), "{advice:?}");
        }
    }

    #[test]
    fn pg_receivewal_names_only_options_that_it_has() {
        for advice in ALL {
            let text = Hint::Advice(advice).text(Personality::PgReceivewal).unwrap_or_default();
            // Quoted text is a complete command line, which names its program.
            let own = text.split('"').step_by(2).collect::<String>();
            for option in own.split_whitespace().filter(|word| word.contains("--")) {
                let option = option.trim_matches(|c: char| !c.is_ascii_lowercase() && c != '-');
                assert!(["--create-slot", "--drop-slot"].contains(&option), "{advice:?}: {text}");
            }
        }
    }

    #[test]
    fn advice_about_a_gap_names_its_beginning() {
        let gap = Hint::Advice(Advice::AcceptGap { next: Lsn::new(0x300_0000) });
        let text = gap.text(Personality::Tapster).unwrap();
        assert!(text.contains("beyond 0/3000000;") && text.contains("with --accept-gap,"), "{text}");
    }
}
