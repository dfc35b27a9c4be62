//! A protocol version: 3.0 since 2003, 3.2 since PostgreSQL 18.
//!
//! 3.1 is reserved: a pooler once announced it by mistake, so no server may
//! ever speak it.
//!
//! Never decides what is agreed on; that is `negotiate`.

use core::fmt;

/// Major and minor, as in the startup packet. The newer is the greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// 3, in all that is alive.
    pub major: u16,
    /// 0 or 2; 9999 from clients that test whether we negotiate.
    pub minor: u16,
}

impl Version {
    /// What every server and client speaks. Cancel keys have 4 bytes.
    pub const V3_0: Version = Version { major: 3, minor: 0 };
    /// PostgreSQL 18's. Cancel keys have 4 to 256 bytes.
    pub const V3_2: Version = Version { major: 3, minor: 2 };
    pub(super) const V3_1: Version = Version { major: 3, minor: 1 };

    /// The version in a 32-bit code of the protocol.
    pub fn from_code(code: u32) -> Version {
        let [a, b, c, d] = code.to_be_bytes();
        Version { major: u16::from_be_bytes([a, b]), minor: u16::from_be_bytes([c, d]) }
    }

    /// The 32-bit code of the protocol.
    pub fn code(self) -> u32 {
        u32::from(self.major) << 16 | u32::from(self.minor)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
