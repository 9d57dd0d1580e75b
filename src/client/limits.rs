use crate::codec::Limits;

/// What a server may make a session take of memory and time.
///
/// ```
/// use tapster::client::SessionLimits;
/// use tapster::codec::Limits;
/// // Rows of at most 64 KiB, 1 MiB of them in one answer, and everything else as for control.
/// let messages = Limits { data_row: 64 << 10, ..SessionLimits::CONTROL.messages };
/// let limits = SessionLimits { messages, answer_bytes: 1 << 20, ..SessionLimits::CONTROL };
/// # assert!(limits.whole_answers_in_time);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// The longest message of each type, in bytes.
    pub messages: Limits,
    /// The memory that the rows of one answer may take, in bytes, where a call collects them. A call that gives row
    /// after row has no such limit.
    pub answer_bytes: usize,
    /// Whether the [read timeout](super::Connection::set_read_timeout) bounds an answer as a whole, from its command on,
    /// and not only each silence in it: a server that sends a notice a second would otherwise hold a call for ever.
    pub whole_answers_in_time: bool,
}

impl SessionLimits {
    /// For sessions that read data: rows as long as servers send them, as many as there are, for as long as bytes come.
    pub const DATA: Self =
        Self { messages: Limits::DEFAULT, answer_bytes: usize::MAX, whole_answers_in_time: false };

    /// For status and control, where answers are short: rows and messages of at most 1 MiB, 8 MiB for one answer, and
    /// whole answers within the read timeout.
    pub const CONTROL: Self = Self {
        messages: Limits {
            copy_data: SHORT,
            data_row: SHORT,
            error: SHORT,
            function_result: SHORT,
            row_description: SHORT,
            ..Limits::DEFAULT
        },
        answer_bytes: 8 << 20,
        whole_answers_in_time: true,
    };
}

const SHORT: u32 = 1 << 20;

impl Default for SessionLimits {
    fn default() -> Self {
        Self::DATA
    }
}
