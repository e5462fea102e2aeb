//! The clock of idle connections. In: the moment up to which hyper waits for a request's head. Out: whether it has passed, whenever the
//! connection is looked at anyway, and every [`LOOK`]. hyper asks for a timer at each request: one of tokio's is an allocation and two
//! visits to a lock that all connections share, for a limit that is hardly ever reached and need not be exact. hyper has no clock for clients that do not
//! read: at each look it is seen whether this one takes what it is sent.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use hyper::rt::{Sleep, Timer};
use tokio::time::Instant;

use crate::connections::Activity;

/// How often a connection on which nothing happens is looked at: by so much later than hyper wants it may be closed.
const LOOK: Duration = Duration::from_secs(15);

/// hyper's timer; [`looks`] must be polled beside the connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct IdleTimer;

/// Wakes its task again and again; ends when the client has not read for too long.
pub(crate) async fn looks(activity: &Activity) {
    let mut next = tokio::time::interval_at(Instant::now() + LOOK, LOOK);
    while !activity.is_unread() {
        next.tick().await;
    }
}

struct Until(std::time::Instant);

impl Future for Until {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if Instant::now().into_std() < self.0 {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    }
}

impl Sleep for Until {}

impl Timer for IdleTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: std::time::Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Until(deadline))
    }

    fn now(&self) -> std::time::Instant {
        Instant::now().into_std()
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn Sleep>>, deadline: std::time::Instant) {
        match sleep.as_mut().downcast_mut_pin::<Until>() {
            Some(mut until) => until.0 = deadline,
            None => *sleep = self.sleep_until(deadline),
        }
    }
}
