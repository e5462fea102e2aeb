//! A body whose length is not known beforehand: the request is answered when its last part has been handed over, not with the head.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use crate::connections::Activity;

/// The body, and whom to tell.
pub(super) struct Streamed {
    body: Body,
    activity: Arc<Activity>,
}

impl Streamed {
    pub(super) fn new(body: Body, activity: Arc<Activity>) -> Self {
        Streamed { body, activity }
    }
}

impl Drop for Streamed {
    fn drop(&mut self) {
        self.activity.answered();
    }
}

impl hyper::body::Body for Streamed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
