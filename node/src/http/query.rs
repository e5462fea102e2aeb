//! A query, read strictly. In: its text. Out: each member at most once, by name. A member that nobody took is refused by name: a wish
//! that is not obeyed must not look obeyed.

use kvfleet_api::{Code, Problem};
use percent_encoding::percent_decode;

use super::{key::escapes_are_whole, refuse};
use crate::problem::Failure;

/// The members that have not been taken yet.
pub(super) struct Query {
    members: Vec<(String, String)>,
}

impl Query {
    pub(super) fn parse(query: Option<&str>) -> Result<Self, Failure> {
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let members = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name, name)?, decode(name, value)?))
        });
        Ok(Query {
            members: members.collect::<Result<_, Failure>>()?,
        })
    }

    /// The value of the only member of this name.
    pub(super) fn take(&mut self, name: &str) -> Result<Option<String>, Failure> {
        let Some(at) = self.members.iter().position(|(found, _)| found == name) else {
            return Ok(None);
        };
        let (_, value) = self.members.swap_remove(at);
        if self.members.iter().any(|(found, _)| found == name) {
            return Err(refuse::parameter(name, "it may be given once"));
        }
        Ok(Some(value))
    }

    /// A whole number.
    pub(super) fn number(&mut self, name: &str) -> Result<Option<u64>, Failure> {
        let Some(text) = self.take(name)? else { return Ok(None) };
        let number = text
            .parse()
            .map_err(|_| refuse::parameter(name, "it is a whole number, in decimal digits"))?;
        Ok(Some(number))
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, name: &str) -> Result<bool, Failure> {
        match self.take(name)?.as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(refuse::parameter(name, "it is true or false")),
        }
    }

    /// Refuses what is left.
    pub(super) fn finish(self) -> Result<(), Failure> {
        match self.members.first() {
            None => Ok(()),
            Some((name, _)) => {
                let detail = if LATER.contains(&name.as_str()) {
                    "this version does not know it yet"
                } else {
                    "this call has no such parameter"
                };
                Err(refuse::parameter(name, detail))
            }
        }
    }
}

/// Members that the contract names and that this version does not obey.
const LATER: &[&str] = &["all", "count", "delimiter", "dry_run", "timestamp"];

/// As forms are decoded: `+` is a space, which is what every library sends for one.
fn decode(name: &str, text: &str) -> Result<String, Failure> {
    if !text.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        return Ok(text.to_owned());
    }
    let problem = |detail: &str| {
        let mut problem = Problem::new(Code::InvalidParameter, format!("{name}: {detail}"), "");
        problem.pointer = Some(name.to_owned());
        Failure::from(problem)
    };
    if !escapes_are_whole(text) {
        return Err(problem("a `%` must be followed by two hexadecimal digits"));
    }
    let spaced = text.replace('+', " ");
    let decoded = percent_decode(spaced.as_bytes()).decode_utf8();
    Ok(decoded.map_err(|_| problem("it must be UTF-8"))?.into_owned())
}
