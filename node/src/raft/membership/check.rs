//! The rules that a change must keep. In: a [`Picture`] and the change. Out: that it holds already, that it may go on, or the rule that it
//! breaks, in words. Absent: openraft, time, and every effect.

use kvfleet_api::admin::MemberAddress;

use super::{Change, MembershipError, MembershipRefusal as Refusal, picture::Picture};

/// A member that lacks at most this many entries is caught up: at full load that is what is on its way …
pub(super) const CAUGHT_UP: u64 = 1_000;
/// … and at most this many bytes of them: as many as one append carries. Should its vote be needed at once, every write waits for that long.
/// Less would keep a member that is sent values of a MiB one after the other from ever being caught up.
pub(super) const CAUGHT_UP_BYTES: u64 = 4 << 20;
/// More voters make every write wait for more disks and add nothing that seven lack.
const MOST_VOTERS: usize = 7;

/// What is to be done for a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Holds,
    /// First another voter must lead.
    HandOver,
    /// Its steps.
    Go,
}

type Checked = Result<Verdict, MembershipError>;

pub(super) fn refuse<T>(refusal: Refusal, detail: String) -> Result<T, MembershipError> {
    Err(MembershipError::Refused { refusal, detail })
}

/// Whether a change may begin.
pub(super) fn check(picture: &Picture, change: &Change) -> Checked {
    match change {
        Change::AddLearner(new) => match free(picture, new, None)? {
            Some(_) => Ok(Verdict::Holds),
            None => Ok(Verdict::Go),
        },
        Change::Promote { id } => promote(picture, *id),
        Change::Remove { id } => remove(picture, *id),
        Change::Replace { old, new } => replace(picture, *old, new),
    }
}

/// The member of this id, when it is in the group already; none when id, name and address are free. `instead_of` gives its own up.
fn free<'p>(picture: &'p Picture, new: &MemberAddress, instead_of: Option<u64>) -> Result<Option<&'p MemberAddress>, MembershipError> {
    if let Some(known) = picture.member(new.id) {
        if known.name == new.name && known.peer == new.peer {
            return Ok(Some(known));
        }
        return refuse(
            Refusal::IdTaken,
            format!(
                "the id {} belongs to {} at {}, not to {} at {}; ask the new member for its own id",
                new.id, known.name, known.peer, new.name, new.peer
            ),
        );
    }
    let taken = picture
        .members
        .iter()
        .find(|known| Some(known.id) != instead_of && (known.name == new.name || known.peer == new.peer));
    match taken {
        None => Ok(None),
        Some(known) => refuse(
            Refusal::AddressTaken,
            format!(
                "the member {} ({}) at {} has the same name or address as {} at {}; replace it, or give the new member others",
                known.name, known.id, known.peer, new.name, new.peer
            ),
        ),
    }
}

fn promote(picture: &Picture, id: u64) -> Checked {
    match picture.member(id) {
        None => refuse(
            Refusal::NoSuchMember,
            format!("the group has no member {id}; add it as a learner first"),
        ),
        Some(member) if member.voter => Ok(Verdict::Holds),
        Some(_) => {
            let voters: Vec<u64> = picture.voters().chain([id]).collect();
            if voters.len() > MOST_VOTERS {
                return refuse(
                    Refusal::TooManyVoters,
                    format!("the group has {MOST_VOTERS} voters, which is the most; remove one first"),
                );
            }
            caught_up(picture, id)?;
            quorum(picture, &voters, None)?;
            Ok(Verdict::Go)
        }
    }
}

fn remove(picture: &Picture, id: u64) -> Checked {
    match picture.member(id) {
        // Whether it left or never came: it is not there, as was asked.
        None => Ok(Verdict::Holds),
        Some(member) if !member.voter => Ok(Verdict::Go),
        Some(_) => {
            let left: Vec<u64> = picture.voters().filter(|voter| *voter != id).collect();
            if left.is_empty() {
                return refuse(
                    Refusal::LastVoter,
                    format!(
                        "{} is the only voter, and without it the data is lost; add and promote another member first, or replace it",
                        picture.called(id)
                    ),
                );
            }
            quorum(picture, &left, None)?;
            Ok(if id == picture.own { Verdict::HandOver } else { Verdict::Go })
        }
    }
}

fn replace(picture: &Picture, old: u64, new: &MemberAddress) -> Checked {
    if old == new.id {
        return refuse(
            Refusal::IdTaken,
            format!("{old} cannot replace itself: a member that lost its data takes a new id"),
        );
    }
    let known = free(picture, new, Some(old))?;
    match (picture.member(old), known) {
        (None, Some(new)) if new.voter => Ok(Verdict::Holds),
        (None, _) => refuse(
            Refusal::NoSuchMember,
            format!(
                "the group has no member {old} that could be replaced; add {} and promote it",
                new.name
            ),
        ),
        (Some(old), _) if !old.voter => refuse(
            Refusal::NoSuchMember,
            format!("{} ({}) does not vote; remove it and add {}", old.name, old.id, new.name),
        ),
        (Some(old), Some(new)) if new.voter => refuse(
            Refusal::NoSuchMember,
            format!("{} ({}) votes already; remove {} ({})", new.name, new.id, old.name, old.id),
        ),
        (Some(_), _) => {
            let after: Vec<u64> = picture.voters().filter(|voter| *voter != old).chain([new.id]).collect();
            // It will be live before it votes.
            quorum(picture, &after, Some(new.id))?;
            let others = after.iter().any(|voter| *voter != new.id);
            Ok(if old == picture.own && others {
                Verdict::HandOver
            } else {
                Verdict::Go
            })
        }
    }
}

/// Whether a replacement that is caught up may vote.
pub(super) fn check_replaced(picture: &Picture, old: u64, new: u64) -> Result<(), MembershipError> {
    caught_up(picture, new)?;
    let after: Vec<u64> = picture.voters().filter(|voter| *voter != old).chain([new]).collect();
    quorum(picture, &after, None)
}

/// Whether the member is heard and has what the group has, by entries and by bytes. Nothing else decides who may get a vote.
pub(super) fn caught_up(picture: &Picture, id: u64) -> Result<(), MembershipError> {
    let behind = picture.behind(id);
    if !picture.is_live(id) {
        return refuse(
            Refusal::NotCaughtUp,
            format!(
                "{} is not heard (it lacks {behind}); see that it runs and that its peer address can be reached",
                picture.called(id)
            ),
        );
    }
    if behind.snapshot || behind.entries > CAUGHT_UP || behind.bytes > CAUGHT_UP_BYTES {
        return refuse(
            Refusal::NotCaughtUp,
            format!("{} lacks {behind}, and {}; ask again later", picture.called(id), may_vote()),
        );
    }
    Ok(())
}

/// For a message: when a member that lacks something may vote.
pub(super) fn may_vote() -> String {
    format!(
        "may vote when it lacks at most {CAUGHT_UP} entries and {} KiB",
        CAUGHT_UP_BYTES >> 10
    )
}

/// Whether a majority of the voters that would be is live.
fn quorum(picture: &Picture, voters: &[u64], sure: Option<u64>) -> Result<(), MembershipError> {
    let needed = voters.len() / 2 + 1;
    let silent: Vec<String> = voters
        .iter()
        .filter(|voter| Some(**voter) != sure && !picture.is_live(**voter))
        .map(|voter| picture.called(*voter))
        .collect();
    let live = voters.len() - silent.len();
    if live >= needed {
        return Ok(());
    }
    refuse(
        Refusal::QuorumAtRisk,
        format!(
            "of the {} voters that there would be, {live} are heard and {needed} are needed: bring back, or replace, {}",
            voters.len(),
            silent.join(", ")
        ),
    )
}

#[cfg(test)]
mod tests;
