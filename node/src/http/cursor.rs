//! Where a scan goes on. In: the scan and the last key of a page. Out: text that only this scan accepts, and the key back.
//!
//! A cursor is no secret and no permission: it is a key of the caller's own tenant. The digest is there because a cursor used with another
//! range, or cut off on its way, would give a page that looks right and is not.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use kvfleet_api::Code;
use ring::digest::{Context, SHA256};

use super::refuse;
use crate::{problem::Failure, state::ScanRange};

/// The form of the cursor; another form would begin with another number.
const FORM: u8 = 1;

/// Bytes of the digest that are kept.
const DIGEST: usize = 12;

/// The cursor after `last`, in this scan of this tenant.
pub(super) fn after(tenant: &str, range: &ScanRange, last: &str) -> String {
    let mut bytes = vec![FORM];
    bytes.extend_from_slice(&digest(tenant, range, last));
    bytes.extend_from_slice(last.as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The key to go on after.
pub(super) fn parse(tenant: &str, range: &ScanRange, cursor: &str) -> Result<String, Failure> {
    let refuse = || {
        let detail = "it is not of this scan; send it as it came, with the same tenant, prefix, start, end, start_after and reverse";
        refuse::pointed(Code::InvalidCursor, "cursor", detail)
    };
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| refuse())?;
    let (form, rest) = bytes.split_first().ok_or_else(refuse)?;
    let (found, last) = rest.split_at_checked(DIGEST).ok_or_else(refuse)?;
    let last = std::str::from_utf8(last).map_err(|_| refuse())?;
    if *form != FORM || found != digest(tenant, range, last) {
        return Err(refuse());
    }
    Ok(last.to_owned())
}

fn digest(tenant: &str, range: &ScanRange, last: &str) -> [u8; DIGEST] {
    let ScanRange {
        prefix,
        start,
        end,
        start_after,
        reverse,
    } = range;
    let mut context = Context::new(&SHA256);
    for part in [
        Some(tenant),
        prefix.as_deref(),
        start.as_deref(),
        end.as_deref(),
        start_after.as_deref(),
        Some(last),
    ] {
        // A length before each part: no two scans have the same bytes. An absent part is no empty one.
        let length = part.map_or(u64::MAX, |part| part.len() as u64);
        context.update(&length.to_be_bytes());
        context.update(part.unwrap_or_default().as_bytes());
    }
    context.update(&[u8::from(*reverse)]);
    let mut short = [0; DIGEST];
    short.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
    short
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_of_one_scan() {
        let range = ScanRange {
            prefix: Some("a/".into()),
            ..ScanRange::default()
        };
        let cursor = after("acme", &range, "a/ü");
        assert_eq!(parse("acme", &range, &cursor).unwrap(), "a/ü");
        let others = [
            ScanRange::default(),
            ScanRange {
                reverse: true,
                ..range.clone()
            },
            ScanRange {
                prefix: None,
                start: Some("a/".into()),
                ..range.clone()
            },
            ScanRange {
                start: Some(String::new()),
                ..range.clone()
            },
        ];
        for other in others {
            assert_eq!(parse("acme", &other, &cursor).unwrap_err().0.code, Code::InvalidCursor, "{other:?}");
        }
        assert!(parse("other", &range, &cursor).is_err());
        for at in 0..cursor.len() {
            assert!(parse("acme", &range, &cursor[..at]).is_err(), "cut off at {at}");
        }
        for bad in ["", "!", "AAAA", &format!("{cursor}A"), &format!("{cursor}AAAA")] {
            assert!(parse("acme", &range, bad).is_err(), "{bad}");
        }
    }
}
