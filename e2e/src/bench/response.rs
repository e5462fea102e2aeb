//! As much of an HTTP/1.1 answer as the load has to understand: its status, and where it ends.

/// An answer whose bytes are all there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Bytes of the body.
    pub body: usize,
    /// Bytes of head and body.
    pub length: usize,
}

/// Bytes that are no answer with a length.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the answer has no status line, or no length that can be read")]
pub struct Unreadable;

/// The answer at the beginning of `bytes`; `None` while some of it is missing.
///
/// # Errors
/// When this cannot become an answer with a known length. A chunked body has none.
pub fn parse(bytes: &[u8]) -> Result<Option<Answer>, Unreadable> {
    let Some(head) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head_length = head + 4;
    let mut lines = bytes.get(..head).unwrap_or_default().split(|byte| *byte == b'\n');
    let status: u16 = lines
        .next()
        .and_then(|line| line.get(9..12))
        .and_then(|digits| std::str::from_utf8(digits).ok())
        .and_then(|digits| digits.parse().ok())
        .ok_or(Unreadable)?;
    let body = match lines.find_map(length_of) {
        Some(length) => length?,
        None if matches!(status, 204 | 304) => 0,
        None => return Err(Unreadable),
    };
    let length = head_length + body;
    Ok((bytes.len() >= length).then_some(Answer { status, body, length }))
}

fn length_of(line: &[u8]) -> Option<Result<usize, Unreadable>> {
    const NAME: &[u8] = b"content-length:";
    let (name, value) = line.split_at_checked(NAME.len())?;
    if !name.eq_ignore_ascii_case(NAME) {
        return None;
    }
    let value = std::str::from_utf8(value).ok().and_then(|value| value.trim().parse().ok());
    Some(value.ok_or(Unreadable))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_where_its_length_says() {
        let bytes = b"HTTP/1.1 200 OK\r\nServer: x\r\ncontent-Length: 5\r\n\r\nhelloHTTP/1.1 204 No Content\r\n\r\n";
        let first = parse(bytes).unwrap().unwrap();
        assert_eq!(
            (first.status, first.body, &bytes[first.length - 5..first.length]),
            (200, 5, &b"hello"[..])
        );
        let second = parse(&bytes[first.length..]).unwrap().unwrap();
        assert_eq!((second.status, second.body, first.length + second.length), (204, 0, bytes.len()));
        for missing in 0..first.length {
            assert_eq!(parse(&bytes[..missing]), Ok(None), "{missing} bytes");
        }
    }

    #[test]
    fn an_answer_without_a_length_is_refused() {
        for bytes in [
            &b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n",
            b"nonsense\r\n\r\n",
        ] {
            assert_eq!(parse(bytes), Err(Unreadable), "{}", String::from_utf8_lossy(bytes));
        }
    }
}
