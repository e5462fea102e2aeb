//! Waiting for a condition: asked again and again until it holds or the time is up.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

/// Between two questions. Each question is a process or a request, so this adds little.
const PAUSE: Duration = Duration::from_millis(50);

/// Asks until the answer is `Some`, and gives it with the time that it took. A failing question counts as "not yet".
///
/// # Errors
/// None: the type lets callers use `?` throughout.
///
/// # Panics
/// When the time is up, with what was awaited and the last failure. A panic, because it makes the test's namespace print what is in it.
pub fn until<T>(what: &str, limit: Duration, mut question: impl FnMut() -> Result<Option<T>>) -> Result<(T, Duration)> {
    let start = Instant::now();
    let mut last = None;
    loop {
        match question() {
            Ok(Some(answer)) => return Ok((answer, start.elapsed())),
            Ok(None) => {}
            Err(error) => last = Some(error),
        }
        if start.elapsed() > limit {
            match last {
                Some(error) => panic!("{what}: not within {limit:?}; the last attempt failed: {error:#}"),
                None => panic!("{what}: not within {limit:?}"),
            }
        }
        thread::sleep(PAUSE);
    }
}
