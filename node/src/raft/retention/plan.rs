//! How far the log may be cut. In: what this member has seen of the log, of its own state machine and of the others. Out: an index, and
//! whom the log is held for no longer. Absent: time, openraft, and every effect.

use std::collections::BTreeSet;

/// Another member, as the leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) id: u64,
    /// The first index that it is not known to have; none while the leader knows nothing of it.
    pub(super) first_lacking: Option<u64>,
}

/// A member that is being sent a snapshot, or was a moment ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::raft) struct Attended {
    pub(in crate::raft) member: u64,
    /// The first index after the snapshot.
    pub(in crate::raft) needs_from: u64,
}

/// What one look found. An index is always the first one of what is, or must be, there.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// Everything below was dropped already.
    pub(super) first_held: u64,
    /// Everything below is applied, and so committed.
    pub(super) applied: u64,
    /// Everything below is durable in the state machine.
    pub(super) durable: u64,
    /// What a leader has told, or this one knew before.
    pub(super) told: u64,
    /// The others; none while this member does not lead.
    pub(super) members: Option<Vec<Member>>,
    pub(super) attended: Option<Attended>,
    /// From here on the log is kept in any case.
    pub(super) least_from: u64,
    /// Before this, it is held for no member.
    pub(super) most_from: u64,
}

impl Seen {
    /// The member that was sent a snapshot, once it has that: from then on it is like the others.
    pub(super) fn settled(&self) -> Option<u64> {
        let attended = self.attended?;
        let has = |member: &Member| member.id == attended.member && member.first_lacking >= Some(attended.needs_from);
        self.members.as_ref()?.iter().any(has).then_some(attended.member)
    }
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// No member that the log is held for needs anything below. 0 when that is not known.
    pub(super) unneeded: u64,
    /// The first index that stays.
    pub(super) cut_to: u64,
    /// For whom the log is held no longer, as of this look.
    pub(super) given_up: Vec<Member>,
}

/// `given_up` are members of which nothing is known, and that the log has been held for in vain.
pub(super) fn plan(seen: Seen, given_up: &mut BTreeSet<u64>) -> Plan {
    let mut unneeded = 0;
    let mut newly = Vec::new();
    if let Some(members) = &seen.members {
        given_up.retain(|id| members.iter().any(|member| member.id == *id && member.first_lacking.is_none()));
        unneeded = seen.applied;
        for member in members {
            let Some(needs_from) = needs_from(&seen, member, given_up) else {
                continue;
            };
            if needs_from < seen.most_from {
                newly.push(*member);
                if member.first_lacking.is_none() {
                    given_up.insert(member.id);
                }
            } else {
                unneeded = unneeded.min(needs_from);
            }
        }
    } else {
        given_up.clear();
    }
    let wanted = unneeded.max(seen.told).max(seen.most_from);
    Plan {
        unneeded,
        cut_to: wanted.min(seen.durable).min(seen.least_from),
        given_up: newly,
    }
}

/// From where on the log is held for a member; none when it is of no use to it.
fn needs_from(seen: &Seen, member: &Member, given_up: &BTreeSet<u64>) -> Option<u64> {
    let by_snapshot = seen
        .attended
        .filter(|attended| attended.member == member.id)
        .map(|attended| attended.needs_from);
    match member.first_lacking {
        Some(first) if first >= seen.first_held => Some(first),
        // It lacks what is gone: a snapshot, and what comes after it.
        Some(_) => by_snapshot,
        None if by_snapshot.is_some() => by_snapshot,
        None => (!given_up.contains(&member.id)).then_some(seen.first_held),
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn member(id: u64, first_lacking: impl Into<Option<u64>>) -> Member {
        Member {
            id,
            first_lacking: first_lacking.into(),
        }
    }

    /// A leader that holds 100 to 1,000, of which 950 are durable; at least the last 20 are kept, at most the last 600 held.
    fn leader(members: &[Member]) -> Seen {
        Seen {
            first_held: 100,
            applied: 1_000,
            durable: 950,
            told: 0,
            members: Some(members.to_vec()),
            attended: None,
            least_from: 980,
            most_from: 400,
        }
    }

    fn once(seen: Seen) -> Plan {
        plan(seen, &mut BTreeSet::new())
    }

    #[test]
    fn what_every_member_has_goes_but_for_what_is_not_durable_and_the_end() {
        let all = [member(2, 1_000), member(3, 999)];
        let plan = once(leader(&all));
        assert_eq!((plan.unneeded, plan.cut_to), (999, 950), "no entry goes before it is durable");
        let mut durable = leader(&all);
        durable.durable = 1_000;
        assert_eq!(once(durable.clone()).cut_to, 980, "the end stays");
        durable.members = Some(Vec::new());
        assert_eq!(
            (once(durable.clone()).unneeded, once(durable).cut_to),
            (1_000, 980),
            "a group of one"
        );
    }

    #[test]
    fn the_log_is_held_for_a_member_that_lacks_entries_up_to_the_bound() {
        let away = [member(2, 1_000), member(3, 500)];
        let plan = once(leader(&away));
        assert_eq!((plan.unneeded, plan.cut_to, plan.given_up.len()), (500, 500, 0));
        let mut longer = leader(&away);
        longer.most_from = 501;
        let plan = once(longer);
        assert_eq!(plan.given_up, [member(3, 500)]);
        assert_eq!(plan.cut_to, 950, "what is no use to it is not kept for it");
    }

    #[test]
    fn for_a_member_that_lacks_what_is_gone_only_what_follows_its_snapshot_is_held() {
        let lost = [member(2, 1_000), member(3, 50)];
        assert_eq!(once(leader(&lost)).cut_to, 950);
        let mut attended = leader(&lost);
        attended.attended = Some(Attended {
            member: 3,
            needs_from: 700,
        });
        assert_eq!(once(attended.clone()).cut_to, 700);
        assert_eq!(attended.settled(), None);
        attended.members = Some(vec![member(2, 1_000), member(3, 700)]);
        assert_eq!(attended.settled(), Some(3), "it has it");
        attended.members = Some(vec![member(2, 1_000), member(3, None)]);
        assert_eq!(once(attended).cut_to, 700, "a new member, too");
    }

    /// A leader that has just been elected knows nothing of anybody.
    #[test]
    fn the_log_is_held_for_a_member_that_is_not_known_until_it_is_too_much() {
        let mut given_up = BTreeSet::new();
        let unknown = leader(&[member(2, 1_000), member(3, None)]);
        let mut young = unknown.clone();
        young.most_from = 100;
        assert_eq!(plan(young.clone(), &mut given_up).cut_to, 100);
        let over = plan(unknown.clone(), &mut given_up);
        assert_eq!((over.cut_to, over.given_up.len()), (950, 1));
        young.first_held = 950;
        young.durable = 970;
        let after = plan(young.clone(), &mut given_up);
        assert_eq!(
            (after.cut_to, after.given_up.len()),
            (970, 0),
            "it stays given up, and that is said once"
        );
        young.members = Some(vec![member(2, 1_000), member(3, 960)]);
        assert_eq!(plan(young, &mut given_up).cut_to, 960, "until it is heard");
        assert!(given_up.is_empty());
    }

    #[test]
    fn a_follower_cuts_what_the_leader_tells_and_what_is_too_much() {
        let mut follower = leader(&[]);
        follower.members = None;
        assert_eq!((once(follower.clone()).unneeded, once(follower.clone()).cut_to), (0, 400));
        follower.told = 700;
        assert_eq!(once(follower.clone()).cut_to, 700);
        follower.told = 5_000;
        assert_eq!(once(follower).cut_to, 950, "its own state machine decides");
    }
}
