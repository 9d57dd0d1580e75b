use core::fmt;

/// A protocol version as the startup packet carries it: major in the upper half, minor in the lower.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProtocolVersion(u32);

impl ProtocolVersion {
    /// 3.0: every server since 7.4.
    pub const V3_0: Self = Self::new(3, 0);
    /// 3.2: servers from 18 on; allows cancel keys of up to 256 bytes.
    pub const V3_2: Self = Self::new(3, 2);

    /// The version `major.minor`.
    #[must_use]
    pub const fn new(major: u16, minor: u16) -> Self {
        Self((major as u32) << 16 | minor as u32)
    }

    /// The number in a packet, 196608 for 3.0.
    #[must_use]
    pub const fn code(self) -> u32 {
        self.0
    }

    /// The version of the number in a packet.
    #[must_use]
    pub const fn from_code(code: u32) -> Self {
        Self(code)
    }

    /// The major version.
    #[must_use]
    pub const fn major(self) -> u32 {
        self.0 >> 16
    }

    /// The minor version.
    #[must_use]
    pub const fn minor(self) -> u32 {
        self.0 & 0xffff
    }
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major(), self.minor())
    }
}

impl fmt::Debug for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProtocolVersion({self})")
    }
}
