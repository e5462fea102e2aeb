//! The search for an order (Wing and Gong 1993), which visits no configuration twice (Lowe 2017).
//!
//! Calls and ends stand in one list by time. The search takes the first call whose effect fits the register, lifts it out of the list, and goes on
//! from the front; when it meets the end of an operation that it has not taken, that operation came too late, and the last choice is undone. A
//! configuration is the set of taken operations with the register's content: one that was visited leads nowhere new.

use std::collections::HashSet;

use super::{model::Value, prepare::Span};

/// Far more than any of our histories needs (a key of some hundred operations takes thousands), far less than a minute.
const STEPS: u64 = 20_000_000;

/// Where the search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// At an order.
    Explained,
    /// There is none.
    Illegal,
    /// After [`STEPS`].
    GivenUp,
}

#[derive(Clone, Copy)]
struct Event {
    operation: usize,
    kind: Kind,
    previous: usize,
    next: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The list's first and last.
    Border,
    /// A call, and where its end is.
    Call(Option<usize>),
    End,
}

/// The list: index 0 is before the first event, index 1 after the last.
struct Events(Vec<Event>);

const FRONT: usize = 0;
const BACK: usize = 1;

#[allow(clippy::indexing_slicing, reason = "every index was made by `new`, from this very list")]
impl Events {
    fn new(spans: &[Span]) -> Self {
        // At equal times the call comes first: the two then count as side by side.
        let calls = spans.iter().enumerate().map(|(index, span)| (span.operation.called, 0, index));
        let ends = spans.iter().enumerate().filter_map(|(index, span)| Some((span.end?, 1, index)));
        let mut moments: Vec<(u64, u8, usize)> = calls.chain(ends).collect();
        moments.sort_unstable();
        let border = Event {
            operation: usize::MAX,
            kind: Kind::Border,
            previous: FRONT,
            next: BACK,
        };
        let mut events = vec![border, border];
        let mut calls = vec![FRONT; spans.len()];
        let mut last = FRONT;
        for (_, what, operation) in moments {
            let index = events.len();
            let kind = if what == 0 {
                calls[operation] = index;
                Kind::Call(None)
            } else {
                events[calls[operation]].kind = Kind::Call(Some(index));
                Kind::End
            };
            events[last].next = index;
            events.push(Event {
                operation,
                kind,
                previous: last,
                next: BACK,
            });
            last = index;
        }
        events[last].next = BACK;
        events[BACK].previous = last;
        Events(events)
    }

    fn after(&self, index: usize) -> usize {
        self.0[index].next
    }

    fn event(&self, index: usize) -> Event {
        self.0[index]
    }

    fn unlink(&mut self, index: usize) {
        let Event { previous, next, .. } = self.0[index];
        self.0[previous].next = next;
        self.0[next].previous = previous;
    }

    fn relink(&mut self, index: usize) {
        let Event { previous, next, .. } = self.0[index];
        self.0[previous].next = index;
        self.0[next].previous = index;
    }

    fn lift(&mut self, call: usize, end: Option<usize>) {
        self.unlink(call);
        if let Some(end) = end {
            self.unlink(end);
        }
    }

    /// Undoes the last `lift`; the reverse order makes the neighbours right again.
    fn put_back(&mut self, call: usize, end: Option<usize>) {
        if let Some(end) = end {
            self.relink(end);
        }
        self.relink(call);
    }
}

/// Which operations were taken.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Taken(Box<[u64]>);

impl Taken {
    fn flip(&mut self, operation: usize) {
        if let Some(word) = self.0.get_mut(operation / 64) {
            *word ^= 1 << (operation % 64);
        }
    }
}

/// Looks for an order of the operations of one key.
pub(super) fn search(spans: &[Span]) -> Outcome {
    let mut events = Events::new(spans);
    let mut missing = spans.iter().filter(|span| span.end.is_some()).count();
    let mut register: Option<Value> = None;
    let mut taken = Taken(vec![0; spans.len().div_ceil(64)].into());
    let mut visited: HashSet<(Taken, Option<Value>)> = HashSet::new();
    let mut choices: Vec<(usize, Option<usize>, Option<Value>)> = Vec::new();
    let mut at = events.after(FRONT);
    for _ in 0..STEPS {
        if missing == 0 {
            return Outcome::Explained;
        }
        let event = events.event(at);
        if let Kind::Call(end) = event.kind {
            let effect = spans.get(event.operation).and_then(|span| span.operation.apply(register));
            if let Some(after) = effect {
                taken.flip(event.operation);
                if visited.insert((taken.clone(), after)) {
                    choices.push((at, end, register));
                    register = after;
                    missing -= usize::from(end.is_some());
                    events.lift(at, end);
                    at = events.after(FRONT);
                    continue;
                }
                taken.flip(event.operation);
            }
            at = events.after(at);
            continue;
        }
        // The end of an operation that was not taken, or of the list: the last choice was wrong.
        let Some((call, end, before)) = choices.pop() else {
            return Outcome::Illegal;
        };
        events.put_back(call, end);
        taken.flip(events.event(call).operation);
        register = before;
        missing += usize::from(end.is_some());
        at = events.after(call);
    }
    Outcome::GivenUp
}
