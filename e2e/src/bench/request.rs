//! Requests, made once and patched: a new key and a new value are copied over the old ones, so a request costs the load two copies.

use std::{collections::hash_map::RandomState, fmt::Write, hash::BuildHasher, ops::Range, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};

/// Bytes of every value.
pub const VALUE: usize = 256;
/// Bytes of every key: `k` and seven digits.
pub const KEY: usize = 8;
/// So many different values are written in turn: too many for a system to gain from equal ones, few enough to be there beforehand.
const VALUES: usize = 512;

/// What the load asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Operation {
    /// Durable writes.
    Puts,
    /// Linearizable reads.
    Gets,
    /// Reads of what the asked member has (etcd: `serializable`).
    Any,
    /// `consistency=leader`.
    Leader,
    /// Writes with `ack=all`.
    PutsEverywhere,
}

impl Operation {
    /// As in tables.
    pub fn title(self) -> &'static str {
        match self {
            Operation::Puts => "put",
            Operation::Gets => "get, linearizable",
            Operation::Any => "get, `consistency=any`",
            Operation::Leader => "get, `consistency=leader`",
            Operation::PutsEverywhere => "put, `ack=all`",
        }
    }

    /// Whether it writes.
    pub fn writes(self) -> bool {
        matches!(self, Operation::Puts | Operation::PutsEverywhere)
    }
}

/// The numbers of a load: pseudo-random, from a seed of the system's.
pub struct Numbers(u64);

impl Numbers {
    /// Another sequence than any before.
    pub fn new() -> Numbers {
        Numbers(RandomState::new().hash_one(0) | 1)
    }

    /// The next number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        // xorshift64: a few instructions, and even enough for picking keys.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

impl Default for Numbers {
    fn default() -> Self {
        Numbers::new()
    }
}

/// Equally long strings, one after the other.
struct Table {
    bytes: Vec<u8>,
    width: usize,
}

impl Table {
    fn of(strings: impl Iterator<Item = Vec<u8>>) -> Table {
        let mut bytes = Vec::new();
        let mut width = 0;
        for string in strings {
            width = string.len();
            bytes.extend_from_slice(&string);
        }
        Table { bytes, width }
    }

    fn len(&self) -> usize {
        self.bytes.len() / self.width.max(1)
    }

    fn copy(&self, number: usize, into: &mut [u8]) {
        if let Some(string) = self.bytes.get(number * self.width..(number + 1) * self.width) {
            into.copy_from_slice(string);
        }
    }
}

/// A request to a system, with places for a key and a value.
#[derive(Clone)]
pub struct Template {
    bytes: Vec<u8>,
    key: Range<usize>,
    value: Option<Range<usize>>,
    keys: Arc<Table>,
    values: Arc<Table>,
    /// The fewest bytes that the body of a good answer has.
    pub least_body: usize,
}

impl Template {
    /// A call of kvfleet's REST interface.
    pub fn kvfleet(operation: Operation, token: &str, keys: usize) -> Template {
        let (method, query) = match operation {
            Operation::Puts => ("PUT", ""),
            Operation::Gets => ("GET", ""),
            Operation::Any => ("GET", "?consistency=any"),
            Operation::Leader => ("GET", "?consistency=leader"),
            Operation::PutsEverywhere => ("PUT", "?ack=all"),
        };
        let mut head = format!("{method} /api/v1/tenants/acme/keys/");
        let key = head.len()..head.len() + KEY;
        let _ = write!(
            head,
            "{}{query} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n",
            "k".repeat(KEY)
        );
        let mut value = None;
        if operation.writes() {
            let _ = write!(head, "Content-Type: application/octet-stream\r\nContent-Length: {VALUE}\r\n\r\n");
            value = Some(head.len()..head.len() + VALUE);
            head.push_str(&"v".repeat(VALUE));
        } else {
            head.push_str("\r\n");
        }
        Template {
            bytes: head.into_bytes(),
            key,
            value,
            keys: Arc::new(Table::of(names(keys))),
            values: Arc::new(Table::of(noise())),
            least_body: if operation.writes() { 0 } else { VALUE },
        }
    }

    /// A call of etcd's JSON gateway, where keys and values are base64.
    pub fn etcd(operation: Operation, keys: usize) -> Template {
        let keys = Table::of(names(keys).map(|name| STANDARD.encode(name).into_bytes()));
        let values = Table::of(noise().map(|value| STANDARD.encode(value).into_bytes()));
        let path = if operation.writes() { "put" } else { "range" };
        let mut body = String::from("{\"key\":\"");
        let key = body.len()..body.len() + keys.width;
        body.push_str(&"k".repeat(keys.width));
        let mut value = None;
        match operation {
            Operation::Puts | Operation::PutsEverywhere => {
                body.push_str("\",\"value\":\"");
                value = Some(body.len()..body.len() + values.width);
                body.push_str(&"v".repeat(values.width));
                body.push_str("\"}");
            }
            Operation::Gets | Operation::Leader => body.push_str("\"}"),
            Operation::Any => body.push_str("\",\"serializable\":true}"),
        }
        let head = format!(
            "POST /v3/kv/{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let shift = |range: Range<usize>| head.len() + range.start..head.len() + range.end;
        Template {
            key: shift(key),
            value: value.map(shift),
            least_body: if operation.writes() { 0 } else { values.width },
            bytes: (head + &body).into_bytes(),
            keys: Arc::new(keys),
            values: Arc::new(values),
        }
    }

    /// How many keys there are.
    pub fn keys(&self) -> usize {
        self.keys.len()
    }

    /// The request for this key, with a value taken at random.
    pub fn fill(&mut self, key: usize, numbers: &mut Numbers) -> &[u8] {
        if let Some(place) = self.bytes.get_mut(self.key.clone()) {
            self.keys.copy(key, place);
        }
        if let Some(place) = self.value.clone().and_then(|range| self.bytes.get_mut(range)) {
            self.values.copy(numbers.below(self.values.len()), place);
        }
        &self.bytes
    }
}

fn names(count: usize) -> impl Iterator<Item = Vec<u8>> {
    (0..count).map(|number| format!("k{number:07}").into_bytes())
}

/// Values that nothing can compress.
fn noise() -> impl Iterator<Item = Vec<u8>> {
    let mut numbers = Numbers::new();
    (0..VALUES).map(move |_| (0..VALUE).map(|_| numbers.below(256) as u8).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_put_to_kvfleet_is_a_whole_request_with_the_key_and_a_fresh_value() {
        let mut template = Template::kvfleet(Operation::Puts, "T", 100);
        let mut numbers = Numbers::new();
        let first = template.fill(7, &mut numbers).to_vec();
        let text = String::from_utf8_lossy(&first);
        assert!(
            text.starts_with(
                "PUT /api/v1/tenants/acme/keys/k0000007 HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer T\r\n\
                 Content-Type: application/octet-stream\r\nContent-Length: 256\r\n\r\n"
            ),
            "{text}"
        );
        let values: std::collections::BTreeSet<Vec<u8>> = (0..20)
            .map(|_| template.fill(7, &mut numbers)[first.len() - VALUE..].to_vec())
            .collect();
        assert!(values.len() > 5, "values differ");
    }

    #[test]
    fn a_call_of_etcd_is_json_with_base64() {
        for (operation, path, fields) in [
            (Operation::Puts, "put", 2),
            (Operation::Gets, "range", 1),
            (Operation::Any, "range", 2),
        ] {
            let mut template = Template::etcd(operation, 100);
            let text = String::from_utf8(template.fill(42, &mut Numbers::new()).to_vec()).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with(&format!("POST /v3/kv/{path} HTTP/1.1\r\n")), "{head}");
            assert!(head.ends_with(&format!("Content-Length: {}", body.len())), "{head}");
            let body: serde_json::Map<String, serde_json::Value> = serde_json::from_str(body).unwrap();
            assert_eq!(body.len(), fields);
            assert_eq!(STANDARD.decode(body["key"].as_str().unwrap()).unwrap(), b"k0000042");
            if operation.writes() {
                assert_eq!(STANDARD.decode(body["value"].as_str().unwrap()).unwrap().len(), VALUE);
            }
        }
    }
}
