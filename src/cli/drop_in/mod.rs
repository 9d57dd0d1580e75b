//! The program under the name of one of PostgreSQL's: that program's options, messages, files and exit codes.
//!
//! Each name has a folder. What the names have in common stands here: the way in which they read their
//! arguments ([`getopt`]) and speak to people ([`messages`]).

mod getopt;
mod messages;
mod pg_receivewal;

pub(super) use pg_receivewal::{called_as, main};
