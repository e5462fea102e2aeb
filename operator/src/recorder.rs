//! Events of `events.k8s.io/v1`, for those who ask `kubectl describe`.
//!
//! In: what happened to an object. Out: an event, or a higher count on the one that said the same within six minutes. Absent: kube-runtime's
//! recorder, whose series ignore the note: the second event of a reason would repeat the first one's words, and one whose object is gone from
//! the API server would be lost.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::{
        core::v1::ObjectReference,
        events::v1::{Event, EventSeries},
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams, PostParams},
    runtime::events::EventType,
};
use kvfleet_crds::names::MANAGER;
use serde_json::json;

/// How long the same words count as one series.
const SERIES: Duration = Duration::from_secs(360);
/// How many series are remembered, some 500 bytes each. Of more, the one that was quiet longest is forgotten: it begins again.
const MOST: usize = 1_000;
/// The API server takes no longer note, bytes.
const LONGEST_NOTE: usize = 1_000;
/// Room for the suffix in a name of at most 253 bytes.
const LONGEST_NAME: usize = 200;

/// What happened.
#[derive(Clone, Debug)]
pub struct Happened {
    /// To which object.
    pub regarding: ObjectReference,
    /// Whether a person should look.
    pub type_: EventType,
    /// In one word, for programs.
    pub reason: String,
    /// What the operator was doing.
    pub action: String,
    /// In a sentence, for people.
    pub note: String,
}

/// Writes events.
pub struct Recorder {
    client: Client,
    instance: String,
    /// Never held while an event is written: the same words said twice at once are two events, and no write delays another one.
    series: Mutex<HashMap<Words, Series>>,
}

/// What makes two events the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Words {
    kind: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
    uid: Option<String>,
    type_: EventType,
    reason: String,
    action: String,
    note: String,
}

#[derive(Clone, Debug)]
struct Series {
    event: String,
    count: i32,
    last: Instant,
}

impl Recorder {
    /// For the replica `instance`.
    #[must_use]
    pub fn new(client: Client, instance: String) -> Self {
        Recorder {
            client,
            instance,
            series: Mutex::default(),
        }
    }

    /// Writes an event.
    ///
    /// # Errors
    /// When the API server does not take it.
    pub async fn publish(&self, mut happened: Happened) -> Result<(), kube::Error> {
        truncate(&mut happened.note, LONGEST_NOTE);
        let words = Words::of(&happened);
        let api: Api<Event> = Api::namespaced(self.client.clone(), happened.regarding.namespace.as_deref().unwrap_or("default"));
        let known = self.lock().get(&words).filter(|known| known.last.elapsed() < SERIES).cloned();
        if let Some(mut known) = known {
            known.count = known.count.saturating_add(1);
            let last = EventSeries {
                count: known.count,
                last_observed_time: MicroTime(Timestamp::now()),
            };
            let change = Patch::Merge(json!({ "series": last }));
            match api.patch(&known.event, &PatchParams::default(), &change).await {
                Ok(_) => {
                    self.note(words, known);
                    return Ok(());
                }
                // Events live an hour at most, and anyone may delete them: it is told again from the beginning.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(error),
            }
        }
        let event = api.create(&PostParams::default(), &event(happened, &self.instance)).await?;
        let begun = Series {
            event: event.name_any(),
            count: 1,
            last: Instant::now(),
        };
        self.note(words, begun);
        Ok(())
    }

    fn note(&self, words: Words, told: Series) {
        let mut series = self.lock();
        let last = Instant::now();
        series.insert(words, Series { last, ..told });
        forget(&mut series);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Words, Series>> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Words {
    fn of(happened: &Happened) -> Self {
        let Happened {
            regarding,
            type_,
            reason,
            action,
            note,
        } = happened.clone();
        Words {
            kind: regarding.kind,
            namespace: regarding.namespace,
            name: regarding.name,
            uid: regarding.uid,
            type_,
            reason,
            action,
            note,
        }
    }
}

fn event(happened: Happened, instance: &str) -> Event {
    let Happened {
        regarding,
        type_,
        reason,
        action,
        note,
    } = happened;
    let now = Timestamp::now();
    let mut name = regarding.name.clone().unwrap_or_default();
    truncate(&mut name, LONGEST_NAME);
    let name = format!("{}.{:x}", name.trim_end_matches(['.', '-']), now.as_nanosecond());
    Event {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: regarding.namespace.clone(),
            ..ObjectMeta::default()
        },
        action: Some(action),
        reason: Some(reason),
        note: Some(note),
        event_time: Some(MicroTime(now)),
        regarding: Some(regarding),
        reporting_controller: Some(MANAGER.to_owned()),
        reporting_instance: Some(instance.to_owned()),
        type_: Some(match type_ {
            EventType::Normal => "Normal".to_owned(),
            EventType::Warning => "Warning".to_owned(),
        }),
        ..Event::default()
    }
}

/// Drops what is over, and the quietest where there are too many.
fn forget(series: &mut HashMap<Words, Series>) {
    if series.len() <= MOST {
        return;
    }
    series.retain(|_, series| series.last.elapsed() < SERIES);
    while series.len() > MOST {
        let quietest = series.iter().min_by_key(|(_, series)| series.last).map(|(words, _)| words.clone());
        let Some(quietest) = quietest else { return };
        series.remove(&quietest);
    }
}

/// To at most `most` bytes, at the end of a character.
fn truncate(text: &mut String, most: usize) {
    text.truncate(text.floor_char_boundary(most));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn happened(name: &str, note: &str) -> Happened {
        Happened {
            regarding: ObjectReference {
                namespace: Some("apps".to_owned()),
                name: Some(name.to_owned()),
                ..ObjectReference::default()
            },
            type_: EventType::Normal,
            reason: "PrimaryChanged".to_owned(),
            action: "Follow".to_owned(),
            note: note.to_owned(),
        }
    }

    #[test]
    fn other_words_are_another_series() {
        assert_eq!(Words::of(&happened("a", "b leads")), Words::of(&happened("a", "b leads")));
        assert_ne!(Words::of(&happened("a", "b leads")), Words::of(&happened("a", "c leads")));
        assert_ne!(Words::of(&happened("a", "b leads")), Words::of(&happened("b", "b leads")));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_quietest_goes() {
        let begun = Instant::now();
        let mut series = HashMap::new();
        for number in 0..=MOST {
            let entry = Series {
                event: String::new(),
                count: 1,
                last: begun + Duration::from_millis(number as u64),
            };
            series.insert(Words::of(&happened("a", &number.to_string())), entry);
        }
        forget(&mut series);
        assert_eq!(series.len(), MOST);
        assert!(!series.contains_key(&Words::of(&happened("a", "0"))));
    }

    #[test]
    fn the_api_server_takes_the_longest_name_and_note() {
        let mut note = "ü".repeat(1_000);
        truncate(&mut note, LONGEST_NOTE);
        assert_eq!(note.len(), 1_000);
        let event = event(happened(&format!("{}.{}", "a".repeat(199), "b".repeat(53)), "x"), "one");
        let name = event.metadata.name.unwrap();
        assert!(name.len() <= 253 && !name.contains(".."), "{name}");
    }
}
