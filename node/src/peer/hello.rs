//! The first bytes on a connection, from both ends at once: who speaks, and which formats it can. In: a stream that has been authenticated.
//! Out: the wire format that both ends know, or why there is none. What members tell of themselves is remembered by member. Absent: the
//! frames that follow (`frame`), and what a feature level means (`state`).
//!
//! ```text
//! "kvhi" | length u16 | message with numbered fields
//! ```
//! Neither end waits for the other before it says hello; the one that dialed waits for the other's before its first frame, once per
//! connection. These bytes stay as they are whatever the frames become: a member reads the hello of every later program, skips the fields
//! that it does not know, and can say which of the two must be upgraded.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use prost::Message;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    time::Instant,
};

use super::{connection::write, frame, transport::Levels};
use crate::{cluster_id::ClusterId, logging::Sample};

const MAGIC: &[u8; 4] = b"kvhi";
/// The longest hello that is read; today's are about 65 bytes.
const MOST_BYTES: usize = 4 << 10;
/// How long the other end may take to say hello.
pub(super) const LIMIT: Duration = Duration::from_secs(5);
/// Members that are remembered: many times the size of a group, for those that were replaced.
const MOST_KNOWN: usize = 64;

/// What a member says first.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Hello {
    /// The oldest wire format that it can.
    #[prost(uint32, tag = "1")]
    pub(super) lowest: u32,
    /// The newest.
    #[prost(uint32, tag = "2")]
    pub(super) highest: u32,
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) cluster: Bytes,
    #[prost(uint32, tag = "4")]
    pub(super) shard: u32,
    /// Its id; 0 of one that has none at the moment.
    #[prost(fixed64, tag = "5")]
    pub(super) sender: u64,
    #[prost(string, tag = "6")]
    pub(super) name: String,
    /// The version of its program, for people.
    #[prost(string, tag = "7")]
    pub(super) program: String,
    #[prost(message, required, tag = "8")]
    pub(super) levels: Levels,
}

impl Hello {
    /// As it goes over the wire.
    pub(super) fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::from(&MAGIC[..]);
        let length = u16::try_from(self.encoded_len()).expect("a name and a version are a few hundred bytes");
        bytes.extend_from_slice(&length.to_be_bytes());
        self.encode_raw(&mut bytes);
        bytes.freeze()
    }
}

/// Why two members do not speak.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum HelloError {
    #[error(
        "member {} (program {}) speaks the wire formats {} to {}, and member {} (program {}) {} to {}: upgrade {}",
        theirs.name, theirs.program, theirs.lowest, theirs.highest, own.name, own.program, own.lowest, own.highest,
        if theirs.highest < own.lowest { &theirs.name } else { &own.name }
    )]
    NoCommonFormat { own: Box<Hello>, theirs: Box<Hello> },
    #[error("member {name} is of another cluster")]
    OtherCluster { name: String },
    #[error("it did not begin with a hello: it is no member, or its program is older than the first release: upgrade it")]
    NoHello,
    #[error("it said no hello within {LIMIT:?}")]
    Late,
    #[error("the connection ended before the hello: {0}")]
    Ended(String),
}

/// Says hello for one member, and remembers what others said.
#[derive(Debug)]
pub(super) struct Greeter {
    own: Hello,
    members: Mutex<BTreeMap<u64, Known>>,
    refused: AtomicU64,
    strange: Sample,
}

#[derive(Debug)]
struct Known {
    levels: Levels,
    /// Why it was refused, if it was.
    refused: Option<HelloError>,
    at: Instant,
}

impl Greeter {
    pub(super) fn new(own: Hello) -> Self {
        Greeter {
            own,
            members: Mutex::default(),
            refused: AtomicU64::new(0),
            strange: Sample::new(),
        }
    }

    pub(super) fn own(&self) -> &Hello {
        &self.own
    }

    /// What a member said of feature levels when it was last connected.
    pub(super) fn levels_of(&self, member: u64) -> Option<Levels> {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.get(&member).map(|known| known.levels)
    }

    /// How many connections were refused for their hello.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Says hello and hears the other's. The newest format that both know.
    pub(super) async fn greet<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: &mut S) -> Result<u8, HelloError> {
        let greeted = async {
            write(stream, &self.own.encode()).await.map_err(ended)?;
            read(stream).await
        };
        let heard = tokio::time::timeout(LIMIT, greeted).await.unwrap_or(Err(HelloError::Late));
        match heard {
            Ok(theirs) => {
                let format = self.format_with(&theirs);
                self.remember(theirs, format.as_ref().err().cloned());
                format
            }
            Err(error) => {
                if !matches!(error, HelloError::Ended(_)) {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                    if let Some(left_out) = self.strange.due() {
                        tracing::warn!(%error, left_out, "a connection between members was refused");
                    }
                }
                Err(error)
            }
        }
    }

    pub(super) fn format_with(&self, theirs: &Hello) -> Result<u8, HelloError> {
        if theirs.cluster != self.own.cluster {
            return Err(HelloError::OtherCluster { name: theirs.name.clone() });
        }
        let common = theirs.highest.min(self.own.highest);
        u8::try_from(common)
            .ok()
            .filter(|_| common >= theirs.lowest.max(self.own.lowest))
            .ok_or_else(|| HelloError::NoCommonFormat {
                own: Box::new(self.own.clone()),
                theirs: Box::new(theirs.clone()),
            })
    }

    /// Whether a refusal was told: once per member, and again after it has changed.
    pub(super) fn remember(&self, theirs: Hello, refused: Option<HelloError>) -> bool {
        if refused.is_some() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        let is_other = theirs.cluster != self.own.cluster || theirs.shard != self.own.shard;
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let told = members.get(&theirs.sender).and_then(|known| known.refused.as_ref());
        let news = refused.as_ref().filter(|error| told != Some(error));
        if let Some(error) = news {
            tracing::warn!(%error, member = format_args!("{:x}", theirs.sender), "a member and this one cannot speak to each other");
        }
        let is_told = news.is_some();
        // The levels of another shard's members are nothing to this one.
        if theirs.sender == 0 || (is_other && refused.is_none()) {
            return is_told;
        }
        if members.len() >= MOST_KNOWN
            && !members.contains_key(&theirs.sender)
            && let Some(oldest) = members.iter().min_by_key(|(_, known)| known.at).map(|(id, _)| *id)
        {
            members.remove(&oldest);
        }
        let known = Known {
            levels: theirs.levels,
            refused,
            at: Instant::now(),
        };
        members.insert(theirs.sender, known);
        is_told
    }
}

/// What this program says for a member.
pub(super) fn of_this_program(cluster: ClusterId, shard: u32, sender: u64, name: &str, levels: Levels) -> Hello {
    Hello {
        lowest: u32::from(frame::LOWEST),
        highest: u32::from(frame::HIGHEST),
        cluster: Bytes::copy_from_slice(cluster.as_bytes()),
        shard,
        sender,
        name: name.to_owned(),
        program: env!("CARGO_PKG_VERSION").to_owned(),
        levels,
    }
}

fn ended(error: io::Error) -> HelloError {
    HelloError::Ended(error.to_string())
}

async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Hello, HelloError> {
    let mut magic = [0; MAGIC.len()];
    stream.read_exact(&mut magic).await.map_err(ended)?;
    if magic != *MAGIC {
        return Err(HelloError::NoHello);
    }
    let length = usize::from(stream.read_u16().await.map_err(ended)?);
    if length > MOST_BYTES {
        return Err(HelloError::NoHello);
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await.map_err(ended)?;
    Hello::decode(Bytes::from(message)).map_err(|_| HelloError::NoHello)
}
