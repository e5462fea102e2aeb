//! The identity of a cluster: a UUID that its data directories, certificates and peer frames carry.
//!
//! In: the text of `clusterId`. Out: sixteen bytes that can be compared. Absent: making one (the operator and `kvnode certs` do).

use std::{fmt, str::FromStr};

/// The id of a cluster. Two clusters never share one, so a frame, a directory or a certificate of another cluster is told apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId([u8; 16]);

/// The text is no UUID.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is no cluster id: use a UUID such as 7b0c3f0e-52a5-4d6e-9b1c-0d9a4c2e8f11")]
pub struct ClusterIdError {
    found: String,
}

/// Where the hyphens of a UUID stand.
const HYPHENS: [usize; 4] = [8, 13, 18, 23];

impl ClusterId {
    /// The id with these bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        ClusterId(bytes)
    }

    /// The bytes, in the order of the text.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl FromStr for ClusterId {
    type Err = ClusterIdError;

    fn from_str(text: &str) -> Result<Self, ClusterIdError> {
        let error = || ClusterIdError { found: text.to_owned() };
        let hyphenated = text.len() == 36 && HYPHENS.iter().all(|at| text.as_bytes().get(*at) == Some(&b'-'));
        let digits: Vec<u32> = text
            .chars()
            .filter(|symbol| *symbol != '-')
            .map_while(|symbol| symbol.to_digit(16))
            .collect();
        if !hyphenated || digits.len() != 32 {
            return Err(error());
        }
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair
                .iter()
                .try_fold(0_u8, |value, digit| u8::try_from(*digit).map(|digit| value << 4 | digit))
                .map_err(|_| error())?;
        }
        Ok(ClusterId(bytes))
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            // After bytes 4, 6, 8 and 10 a UUID has a hyphen.
            if matches!(at, 4 | 6 | 8 | 10) {
                formatter.write_str("-")?;
            }
            write!(formatter, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_read_and_written_alike() {
        let text = "7b0c3f0e-52a5-4d6e-9b1c-0d9a4c2e8f11";
        let id: ClusterId = text.parse().unwrap();
        assert_eq!(id.to_string(), text);
        assert_eq!(id.as_bytes()[..4], [0x7b, 0x0c, 0x3f, 0x0e]);
        assert_eq!(text.to_uppercase().parse::<ClusterId>().unwrap(), id);
    }

    #[test]
    fn anything_else_is_refused_by_name() {
        for text in [
            "",
            "7b0c3f0e52a54d6e9b1c0d9a4c2e8f11",
            "7b0c3f0e-52a5-4d6e-9b1c-0d9a4c2e8f1",
            "7b0c3f0e-52a5-4d6e-9b1c-0d9a4c2e8g11",
            "7b0c3f0-e52a5-4d6e-9b1c-0d9a4c2e8f11",
            "-b0c3f0e-52a5-4d6e-9b1c-0d9a4c2e8f11",
        ] {
            assert!(
                text.parse::<ClusterId>().unwrap_err().to_string().contains(&format!("`{text}`")),
                "{text}"
            );
        }
    }
}
