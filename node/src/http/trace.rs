//! The trace id of a request: the caller's own (W3C Trace Context, `traceparent`), or one that is made when it is needed.

use std::sync::OnceLock;

use axum::http::{HeaderMap, HeaderValue};

/// An id that is made at most once, and only for requests that show it.
pub(super) struct Trace(OnceLock<String>);

impl Trace {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let cell = OnceLock::new();
        let given = headers.get("traceparent").and_then(|value| value.to_str().ok()).and_then(trace_id);
        if let Some(given) = given {
            // The cell is new.
            let _ = cell.set(given.to_owned());
        }
        Trace(cell)
    }

    /// Thirty-two hexadecimal digits.
    pub(super) fn id(&self) -> &str {
        self.0.get_or_init(crate::problem::trace_id)
    }

    /// The header for an answer: this trace, and a span of this request's own.
    pub(super) fn parent(&self) -> HeaderValue {
        let mut parent = String::with_capacity(55);
        parent.push_str("00-");
        match self.0.get() {
            Some(id) => parent.push_str(id),
            // Nobody has asked for it, and nobody will after this.
            None => {
                crate::problem::push_random(&mut parent);
                crate::problem::push_random(&mut parent);
            }
        }
        parent.push('-');
        crate::problem::push_random(&mut parent);
        parent.push_str("-00");
        HeaderValue::try_from(parent).unwrap_or(HeaderValue::from_static("00"))
    }
}

/// The second of four fields, if the header has the form of version 00 or of a later one that begins alike.
fn trace_id(header: &str) -> Option<&str> {
    let mut fields = header.split('-');
    let (version, trace, parent, flags) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let hex = |text: &str, length: usize| text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let zero = |text: &str| text.bytes().all(|byte| byte == b'0');
    let well_formed = hex(version, 2) && version != "ff" && hex(trace, 32) && hex(parent, 16) && hex(flags, 2);
    (well_formed && !zero(trace) && !zero(parent)).then_some(trace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_well_formed_parent_is_followed() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let good = format!("00-{trace}-00f067aa0ba902b7-01");
        assert_eq!(trace_id(&good), Some(trace));
        for bad in [
            "",
            "00",
            "00-4bf92f-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(trace_id(bad), None, "{bad}");
        }
    }
}
