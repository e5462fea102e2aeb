//! What a panic does. It ends the process, on whatever thread it happens: a member that goes on with a part of itself gone would be worse
//! than one that is started anew. One place is looked after: a library that is given files which may be damaged may panic about them. A start
//! that ends so would end so again, and nobody would replace the member; so what the next start must know is written down first. Where panics
//! unwind (not in a release build) and the library does not panic once more while it cleans up, this start goes on with it.

use std::{
    cell::RefCell,
    panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind},
};

use crate::logging;

type Note = Box<dyn FnOnce(&str)>;

thread_local! {
    /// Whether panics of this thread are caught, and what is to be done at the first.
    static CAUGHT: RefCell<(bool, Option<Note>)> = const { RefCell::new((false, None)) };
}

/// From now on. Called once, before there are threads.
pub fn install() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let (caught, note) = CAUGHT.with_borrow_mut(|caught| (caught.0, caught.1.take()));
        if caught {
            let reason = reason(panic);
            tracing::warn!(reason, "a library gave up on a file");
            if let Some(note) = note {
                note(&reason);
            }
            // Where panics do not unwind, the process ends when this returns.
            logging::flush();
            return;
        }
        // Printing may wait for whatever reads standard error, and a member that panicked must not stay.
        let _ = std::thread::Builder::new().name("abort".to_owned()).spawn(|| {
            std::thread::sleep(2 * logging::LAST_WORDS);
            std::process::abort()
        });
        logging::flush();
        print(panic);
        std::process::abort();
    }));
}

fn reason(panic: &PanicHookInfo<'_>) -> String {
    let payload = panic.payload_as_str().unwrap_or("it does not say why");
    panic
        .location()
        .map_or_else(|| payload.to_owned(), |place| format!("{payload} ({place})"))
}

/// What `open` gives, or that it panicked; `note` hears of that first. What it had in hand is lost with it.
pub(crate) fn caught<T>(note: impl FnOnce(&str) + 'static, open: impl FnOnce() -> T) -> Result<T, String> {
    CAUGHT.set((true, Some(Box::new(note))));
    let outcome = catch_unwind(AssertUnwindSafe(open));
    CAUGHT.set((false, None));
    outcome.map_err(|payload| {
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        text.or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "it does not say why".to_owned())
    })
}
