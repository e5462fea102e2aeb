//! What this member's frames carry beside their bodies, and what is learned from those of others: clocks, stamps and room; and how bodies
//! are packed and members greeted. One for all connections of a member.

use std::sync::Arc;

use super::{
    clock::Clock,
    connection::Ends,
    frame::{Header, Kind, Method},
    hello::{Greeter, Hello},
    packing::Packing,
    rooms::Rooms,
};

/// Shared by all connections.
#[derive(Debug)]
pub(super) struct Carried {
    pub(super) clock: Arc<Clock>,
    pub(super) rooms: Arc<Rooms>,
    pub(super) greeter: Greeter,
    pub(super) packing: Packing,
}

/// Which frame it is.
pub(super) struct Label {
    pub(super) kind: Kind,
    pub(super) method: Method,
    pub(super) packed: bool,
    pub(super) ends: Ends,
    pub(super) request: u64,
}

impl Carried {
    pub(super) fn new(own: Hello, compress_above: u64) -> Self {
        Carried {
            clock: Arc::new(Clock::new(own.sender)),
            rooms: Arc::new(Rooms::default()),
            greeter: Greeter::new(own),
            packing: Packing::new(compress_above),
        }
    }

    /// The header of a frame that is sent now.
    pub(super) fn header(&self, label: Label) -> Header {
        let (clock_ms, stamp_ms) = self.clock.speak();
        let Label {
            kind,
            method,
            packed,
            ends,
            request,
        } = label;
        let Ends {
            format,
            cluster,
            shard,
            sender,
            target,
        } = ends;
        Header {
            format,
            kind,
            method,
            packed,
            shard,
            cluster,
            sender,
            target,
            clock_ms,
            stamp_ms,
            room: self.rooms.own(),
            request,
        }
    }

    /// Takes in what a frame of another member carried.
    pub(super) fn hear(&self, header: &Header) {
        self.clock.hear(header.sender, header.clock_ms, header.stamp_ms);
        self.rooms.hear(header.sender, header.room);
    }
}
