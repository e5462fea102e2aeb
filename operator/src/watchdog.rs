//! Whether every object is looked at in time. A watch that went deaf, a reconciliation that hangs, a controller that never started: each
//! leaves an object alone without an error anywhere, and its status goes on saying what was true once.
//!
//! In: the objects that there are, and the beginning and end of each look. Out: a [`Report`] for `/readyz`, `/metrics` and the log. Absent:
//! members: a look that found nothing good is a look, so the report does not depend on any of them; and any cure. The liveness probe does
//! not ask here: what made one object late may make it late again after a restart, and the others are served meanwhile.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// How long after it was due a look is late. Longer than the longest honest look, in which every member of a group is asked in vain.
pub const MARGIN: Duration = Duration::from_secs(60);
/// How often the objects that there are are compared with the looks.
const PERIOD: Duration = Duration::from_secs(5);
/// How many late objects are named; the rest is counted.
const NAMED: usize = 5;

/// An object's namespace and name.
pub type Key = (String, String);

/// An object that there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its namespace and name.
    pub key: Key,
    /// Its generation.
    pub generation: i64,
}

/// How a look ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// To its end.
    Done,
    /// With an error, and it is tried again.
    Failed,
}

/// All controllers' looks. Clones share them.
#[derive(Clone, Default)]
pub struct Watchdog {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    /// Since when this replica is the active one.
    active: Option<Instant>,
    parts: Vec<Arc<Looks>>,
}

/// The looks of one controller in one scope. One entry for each object that there is, some hundred bytes.
pub struct Looks {
    kind: &'static str,
    listed: Arc<AtomicBool>,
    known: Box<dyn Fn() -> Vec<Known> + Send + Sync>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    looks: HashMap<Key, Look>,
    done: u64,
    failed: u64,
}

/// What is known of the looks at one object.
#[derive(Clone, Debug, Default)]
struct Look {
    /// The generation that was looked at last; none before the first look.
    generation: Option<i64>,
    /// Since when it is being looked at.
    running: Option<Instant>,
    /// When it is to be looked at again; none: when it changes.
    due: Option<Instant>,
    /// Since when there is a generation that was not looked at.
    unseen: Option<Instant>,
}

/// What there is to tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Whether this replica is the active one. A standby looks at nothing and owes nothing.
    pub active: bool,
    /// By kind.
    pub kinds: Vec<Kind>,
    /// The latest first, at most five, `KvCluster apps/prod (70 s)`.
    pub named: Vec<String>,
}

/// The objects of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The kind.
    pub kind: &'static str,
    /// How many there are.
    pub objects: usize,
    /// How many of them are late.
    pub late: usize,
    /// By how much the latest is, seconds after it was due.
    pub latest_seconds: u64,
    /// Looks that came to their end.
    pub done: u64,
    /// Looks that ended with an error.
    pub failed: u64,
    /// Whether the API server's list has not come in time, so that nothing is known.
    pub deaf: bool,
}

impl Watchdog {
    /// From now on objects are to be looked at.
    pub fn activate(&self, now: Instant) {
        self.lock().active = Some(now);
    }

    /// The looks of one more controller. `listed` becomes true with the first complete list; `known` answers with what there is.
    pub fn add(&self, kind: &'static str, listed: Arc<AtomicBool>, known: impl Fn() -> Vec<Known> + Send + Sync + 'static) -> Arc<Looks> {
        let looks = Arc::new(Looks {
            kind,
            listed,
            known: Box::new(known),
            state: Mutex::default(),
        });
        self.lock().parts.push(looks.clone());
        looks
    }

    /// What there is to tell.
    #[must_use]
    pub fn report(&self, now: Instant) -> Report {
        let (active, parts) = {
            let shared = self.lock();
            (shared.active, shared.parts.clone())
        };
        let Some(active) = active else { return Report::default() };
        let mut kinds: Vec<Kind> = Vec::new();
        let mut late = Vec::new();
        for part in parts {
            let kind = part.assess(active, now, &mut late);
            match kinds.iter_mut().find(|other| other.kind == kind.kind) {
                Some(other) => other.add(&kind),
                None => kinds.push(kind),
            }
        }
        late.sort_by(|one: &(Duration, String), other| other.cmp(one));
        late.truncate(NAMED);
        let named = late.into_iter().map(|(by, name)| format!("{name} ({} s)", by.as_secs()));
        Report {
            active: true,
            kinds,
            named: named.collect(),
        }
    }

    /// Compares and tells, for as long as it is polled. A line when something becomes late, again each minute, and one when nothing is.
    pub async fn run(&self) {
        let mut told: Option<Instant> = None;
        loop {
            tokio::time::sleep(PERIOD).await;
            let now = Instant::now();
            match (self.report(now).trouble(), told) {
                (Some(trouble), None) => {
                    tracing::warn!("{trouble}");
                    told = Some(now);
                }
                (Some(trouble), Some(at)) if now.duration_since(at) >= MARGIN => {
                    tracing::warn!("{trouble}");
                    told = Some(now);
                }
                (None, Some(_)) => {
                    tracing::info!("every object is looked at in time again");
                    told = None;
                }
                (Some(_), Some(_)) | (None, None) => {}
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Report {
    /// What a person should know; none while all is well.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let deaf = self.kinds.iter().filter(|kind| kind.deaf).map(|kind| {
            let kind = kind.kind;
            format!("the list of every {kind} has not come from the API server: look for refused watches in this log")
        });
        let late: usize = self.kinds.iter().map(|kind| kind.late).sum();
        let mut parts: Vec<String> = deaf.collect();
        if late > 0 {
            let rest = late - self.named.len();
            let rest = if rest > 0 { format!(" and {rest} more") } else { String::new() };
            parts.push(format!(
                "not looked at in time: {}{rest}: if this stays, delete the operator's pod and report it with this log",
                self.named.join(", ")
            ));
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

impl Kind {
    fn add(&mut self, other: &Kind) {
        self.objects += other.objects;
        self.late += other.late;
        self.latest_seconds = self.latest_seconds.max(other.latest_seconds);
        self.done += other.done;
        self.failed += other.failed;
        self.deaf |= other.deaf;
    }
}

impl Looks {
    /// A look begins.
    pub fn begin(&self, key: Key, generation: i64, now: Instant) {
        *self.lock().looks.entry(key).or_default() = Look {
            generation: Some(generation),
            running: Some(now),
            due: None,
            unseen: None,
        };
    }

    /// It has ended; `again` says when the next one is due, none: when the object changes.
    pub fn end(&self, key: &Key, outcome: Outcome, again: Option<Duration>, now: Instant) {
        let mut state = self.lock();
        match outcome {
            Outcome::Done => state.done += 1,
            Outcome::Failed => state.failed += 1,
        }
        if let Some(look) = state.looks.get_mut(key) {
            look.running = None;
            look.due = again.map(|again| now + again);
        }
    }

    /// Compares with what there is, and adds what is late.
    fn assess(&self, active: Instant, now: Instant, late: &mut Vec<(Duration, String)>) -> Kind {
        let known = (self.known)();
        let mut state = self.lock();
        let there: HashSet<&Key> = known.iter().map(|known| &known.key).collect();
        state.looks.retain(|key, _| there.contains(key));
        let mut kind = Kind {
            kind: self.kind,
            objects: known.len(),
            late: 0,
            latest_seconds: 0,
            done: state.done,
            failed: state.failed,
            deaf: !self.listed.load(Ordering::Relaxed) && now.duration_since(active) > MARGIN,
        };
        for Known { key, generation } in known {
            let look = state.looks.entry(key.clone()).or_default();
            look.compare(generation, now);
            if let Some(by) = look.late(now) {
                kind.late += 1;
                kind.latest_seconds = kind.latest_seconds.max(by.as_secs());
                let (namespace, name) = key;
                late.push((by, format!("{} {namespace}/{name}", self.kind)));
            }
        }
        kind
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Look {
    fn compare(&mut self, generation: i64, now: Instant) {
        if self.generation == Some(generation) {
            self.unseen = None;
        } else {
            self.unseen.get_or_insert(now);
        }
    }

    /// By how much it is late, if it is.
    fn late(&self, now: Instant) -> Option<Duration> {
        let since = [self.running, self.due, self.unseen].into_iter().flatten().min()?;
        let by = now.saturating_duration_since(since);
        (by > MARGIN).then_some(by)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn key(name: &str) -> Key {
        ("apps".to_owned(), name.to_owned())
    }

    fn known(names: &[&str], generation: i64) -> Vec<Known> {
        let known = |name: &&str| Known {
            key: key(name),
            generation,
        };
        names.iter().map(known).collect()
    }

    struct Bench {
        watchdog: Watchdog,
        looks: Arc<Looks>,
        there: Arc<Mutex<Vec<Known>>>,
        begun: Instant,
    }

    fn bench(there: Vec<Known>) -> Bench {
        let there = Arc::new(Mutex::new(there));
        let watchdog = Watchdog::default();
        let begun = Instant::now();
        watchdog.activate(begun);
        let listed = Arc::new(AtomicBool::new(true));
        let answer = there.clone();
        let looks = watchdog.add("KvCluster", listed, move || answer.lock().unwrap().clone());
        Bench {
            watchdog,
            looks,
            there,
            begun,
        }
    }

    impl Bench {
        fn trouble(&self, seconds: u32) -> Option<String> {
            self.watchdog.report(self.begun + SECOND * seconds).trouble()
        }

        fn look(&self, name: &str, generation: i64, seconds: u32, again: Option<Duration>) {
            let at = self.begun + SECOND * seconds;
            self.looks.begin(key(name), generation, at);
            self.looks.end(&key(name), Outcome::Done, again, at);
        }
    }

    #[test]
    fn what_is_never_looked_at_is_named_and_the_rest_counted() {
        let bench = bench(known(&["a", "b", "c", "d", "e", "f", "g", "seen"], 1));
        assert_eq!(bench.trouble(0), None);
        bench.look("seen", 1, 0, Some(2 * SECOND));
        bench.look("seen", 1, 59, Some(2 * SECOND));
        assert_eq!(bench.trouble(60), None);
        let trouble = bench.trouble(61).unwrap();
        assert!(
            trouble.contains("KvCluster apps/c (61 s)") && trouble.contains("and 2 more"),
            "{trouble}"
        );
        assert!(!trouble.contains("seen"), "{trouble}");
        let kind = &bench.watchdog.report(bench.begun + 61 * SECOND).kinds[0];
        assert_eq!((kind.objects, kind.late, kind.latest_seconds, kind.done), (8, 7, 61, 2));
    }

    #[test]
    fn a_look_is_late_when_it_was_due_or_hangs_or_the_object_has_changed() {
        let bench = bench(known(&["a"], 1));
        // Due 15 s after the look.
        bench.look("a", 1, 0, Some(15 * SECOND));
        assert_eq!(bench.trouble(75), None);
        assert!(bench.trouble(76).is_some());
        // Never due again: late only once it has changed.
        bench.look("a", 1, 80, None);
        assert_eq!(bench.trouble(10_000), None);
        *bench.there.lock().unwrap() = known(&["a"], 2);
        assert_eq!(bench.trouble(10_001), None, "the change was seen now");
        assert!(bench.trouble(10_062).is_some());
        // Being looked at is no excuse.
        bench.looks.begin(key("a"), 2, bench.begun + 20_000 * SECOND);
        assert_eq!(bench.trouble(20_060), None);
        assert!(bench.trouble(20_061).unwrap().contains("apps/a"));
        // What is gone owes nothing.
        bench.there.lock().unwrap().clear();
        assert_eq!(bench.trouble(20_062), None);
    }

    #[test]
    fn a_list_that_never_comes_is_told_and_a_standby_owes_nothing() {
        let watchdog = Watchdog::default();
        let looks = watchdog.add("Tenant", Arc::default(), Vec::new);
        let begun = Instant::now();
        assert_eq!(watchdog.report(begun + 1_000 * SECOND), Report::default());
        watchdog.activate(begun);
        assert_eq!(watchdog.report(begun + 60 * SECOND).trouble(), None);
        assert!(watchdog.report(begun + 61 * SECOND).trouble().unwrap().contains("every Tenant"));
        looks.listed.store(true, Ordering::Relaxed);
        assert_eq!(watchdog.report(begun + 61 * SECOND).trouble(), None);
    }
}
