//! What this member's frames carry beside their bodies, and what is learned from those of others: clocks, stamps and room. One for all
//! connections of a member.

use std::sync::Arc;

use super::{
    clock::Clock,
    frame::{Header, Kind, Method},
    rooms::Rooms,
};
use crate::cluster_id::ClusterId;

/// Shared by all connections.
#[derive(Debug)]
pub(super) struct Carried {
    pub(super) clock: Arc<Clock>,
    pub(super) rooms: Arc<Rooms>,
}

/// Which frame it is.
pub(super) struct Label {
    pub(super) kind: Kind,
    pub(super) method: Method,
    pub(super) cluster: ClusterId,
    pub(super) sender: u64,
    pub(super) target: u64,
    pub(super) request: u64,
}

impl Carried {
    pub(super) fn new(own: u64) -> Self {
        Carried {
            clock: Arc::new(Clock::new(own)),
            rooms: Arc::new(Rooms::default()),
        }
    }

    /// The header of a frame that is sent now.
    pub(super) fn header(&self, label: Label) -> Header {
        let (clock_ms, stamp_ms) = self.clock.speak();
        let Label {
            kind,
            method,
            cluster,
            sender,
            target,
            request,
        } = label;
        Header {
            kind,
            method,
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
