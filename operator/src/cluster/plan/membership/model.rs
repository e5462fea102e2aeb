//! A model of a cluster under random faults and edits, driven by the plan alone. A seed decides all of it.
//!
//! The leader of the model keeps the rules of a real one (`kvnode`, `raft/membership/check`). What must hold: no act costs a live voter while
//! another is missing, no copy is put aside that might be the last one, the leader is never asked for what it must refuse for good, and once the
//! faults stop the cluster comes to rest as it was asked to be.

use kvfleet_crds::cluster::Formation;

use super::*;

/// Each seed runs this many steps of faults, and must then be at rest within as many as this.
const FAULTS: u32 = 80;
const REST: u32 = 120;
const SEEDS: u64 = 400;
/// A change whose newcomer is silent is given up after this many steps.
const PATIENCE: u32 = 4;

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let drawn = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(drawn).unwrap() % sides
    }
}

/// What is at a place.
#[derive(Clone, Copy, Debug)]
struct Disk {
    id: u64,
    state: MemberState,
    up: bool,
    behind: bool,
}

/// A member as the group knows it: its id, its place, whether it votes.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Known {
    id: u64,
    place: usize,
    voter: bool,
}

#[derive(Debug)]
struct World {
    desired: u32,
    disks: Vec<Disk>,
    members: Vec<Known>,
    /// A replacement under way: the old id, the new one, and for how long it has been silent.
    running: Option<(u64, u64, u32)>,
    last_id: u64,
}

fn pod(place: usize) -> String {
    format!("p{place}")
}

fn place_of(pod: &str) -> usize {
    pod.trim_start_matches('p').parse().unwrap()
}

impl World {
    fn new(size: u32) -> Self {
        let members: Vec<Known> = (0..size as usize)
            .map(|place| Known {
                id: place as u64 + 1,
                place,
                voter: true,
            })
            .collect();
        let disk = |member: &Known| Disk {
            id: member.id,
            state: MemberState::Member,
            up: true,
            behind: false,
        };
        World {
            desired: size,
            disks: members.iter().map(disk).collect(),
            members,
            running: None,
            last_id: 100,
        }
    }

    fn fresh(&mut self) -> Disk {
        self.last_id += 1;
        Disk {
            id: self.last_id,
            state: MemberState::Blank,
            up: true,
            behind: true,
        }
    }

    fn voters(&self) -> impl Iterator<Item = &Known> {
        self.members.iter().filter(|member| member.voter)
    }

    /// Whether the volume of the member is there and good, its process running or not.
    fn is_intact(&self, member: &Known) -> bool {
        let disk = self.disks.get(member.place);
        disk.is_some_and(|disk| disk.id == member.id && matches!(disk.state, MemberState::Member | MemberState::Blank))
    }

    fn is_live(&self, member: &Known) -> bool {
        self.is_intact(member) && self.disks[member.place].up
    }

    fn is_caught_up(&self, member: &Known) -> bool {
        self.is_live(member) && !self.disks[member.place].behind
    }

    fn leads(&self) -> bool {
        self.voters().filter(|voter| self.is_live(voter)).count() * 2 > self.voters().count()
    }

    /// The StatefulSet has as many pods as there shall be, and as many as belong to the group.
    fn fit_pods(&mut self) {
        let belong = self.members.iter().map(|member| member.place + 1).max().unwrap_or(0);
        let size = belong.max(self.desired as usize);
        self.disks.truncate(size);
        while self.disks.len() < size {
            let disk = self.fresh();
            self.disks.push(disk);
        }
        for place in 0..size {
            let disk = self.disks[place];
            let belongs = self.members.iter().any(|member| member.id == disk.id);
            if disk.up && !belongs && disk.state == MemberState::Member {
                // It finds out that it was removed.
                self.disks[place] = self.fresh();
            }
            if disk.up && belongs && disk.state == MemberState::Blank {
                // The first entries have reached it.
                self.disks[place].state = MemberState::Member;
            }
        }
    }

    fn evidence(&self) -> (Evidence, Group) {
        let place = |(place, disk): (usize, &Disk)| Place {
            pod: pod(place),
            heard: disk.up.then_some((disk.id, disk.state)),
        };
        let member = |member: &Known| GroupMember {
            id: member.id,
            pod: pod(member.place),
            ordinal: u32::try_from(member.place).ok(),
            voter: member.voter,
            caught_up: self.is_caught_up(member),
            heard: self.is_live(member),
        };
        let evidence = Evidence {
            formation: Formation::Formed,
            bootstrap: None,
            chosen: Vec::new(),
            formed_claims: Vec::new(),
            places: self.disks.iter().enumerate().map(place).collect(),
            desired: self.desired,
            no_growth: None,
            voters: Vec::new(),
            group: None,
        };
        let group = Group {
            members: self.members.iter().map(member).collect(),
            running: self.running.map(|(_, id, _)| Running {
                kind: ChangeKind::Replace,
                id,
                progress: String::new(),
            }),
        };
        (evidence, group)
    }

    fn fault(&mut self, dice: &mut Dice) {
        let place = dice.roll(self.disks.len());
        match dice.roll(12) {
            0..=2 => self.disks[place].up = false,
            3..=5 => self.disks[place].up = true,
            6 => self.disks[place].behind = !self.disks[place].behind,
            7 | 8 => self.damage(place, |world| world.fresh()),
            9 => self.damage(place, |world| Disk {
                state: MemberState::Quarantined,
                ..world.disks[place]
            }),
            10 => self.running = None,
            _ => self.desired = [1, 3, 5, 7][dice.roll(4)],
        }
    }

    /// Loses a volume, unless no majority would be left: that is a person's to mend. Nor are two copies in doubt at a time.
    fn damage(&mut self, place: usize, mut to: impl FnMut(&mut World) -> Disk) {
        let before = self.disks[place];
        self.disks[place] = to(self);
        let intact = self.voters().filter(|voter| self.is_intact(voter)).count();
        let doubted = self.disks.iter().filter(|disk| disk.state == MemberState::Quarantined).count();
        let others = self.voters().count() - usize::from(doubted > 0);
        if intact * 2 <= self.voters().count() || doubted > 1 || (doubted == 1 && intact < others) {
            self.disks[place] = before;
        }
    }

    /// Time passes: learners catch up, and a replacement ends.
    fn pass(&mut self) {
        for disk in self.disks.iter_mut().filter(|disk| disk.up && disk.state == MemberState::Member) {
            disk.behind = false;
        }
        let Some((old, new, silent)) = self.running else { return };
        let Some(newcomer) = self.members.iter().find(|member| member.id == new).copied() else {
            self.running = None;
            return;
        };
        if self.is_caught_up(&newcomer) {
            self.members.retain(|member| member.id != old);
            self.members
                .iter_mut()
                .filter(|member| member.id == new)
                .for_each(|member| member.voter = true);
            self.running = None;
        } else if silent >= PATIENCE {
            self.running = None;
        } else {
            self.running = Some((old, new, silent + u32::from(!self.is_live(&newcomer))));
        }
    }

    /// Whether a majority of these would be live, the sure one counted.
    fn quorum(&self, voters: &[Known], sure: Option<u64>) -> bool {
        let live = voters.iter().filter(|voter| Some(voter.id) == sure || self.is_live(voter)).count();
        live * 2 > voters.len()
    }

    /// As the leader does it. False: it refuses for now.
    ///
    /// # Panics
    /// When it would refuse for good.
    fn carry_out(&mut self, act: &Act) -> bool {
        let after = |id: u64| self.voters().filter(|voter| voter.id != id).copied().collect::<Vec<_>>();
        match act {
            Act::Wait(_) | Act::Halt(_) => true,
            Act::AddLearner { pod, id } => {
                self.admit(pod, *id, None);
                true
            }
            Act::Promote { id, .. } => {
                let learner = *self.members.iter().find(|member| member.id == *id).unwrap();
                assert!(!learner.voter && self.voters().count() < 7);
                assert!(!self.voters().any(|voter| voter.place == learner.place), "two voters of one pod");
                if !self.is_caught_up(&learner) {
                    return false;
                }
                self.members
                    .iter_mut()
                    .filter(|member| member.id == *id)
                    .for_each(|member| member.voter = true);
                true
            }
            Act::Remove { id, .. } => {
                let Some((_, new, _)) = self.running else {
                    let left = after(*id);
                    let voter = self.voters().any(|voter| voter.id == *id);
                    assert!(!left.is_empty(), "the last voter");
                    if voter && !self.quorum(&left, None) {
                        return false;
                    }
                    self.members.retain(|member| member.id != *id);
                    return true;
                };
                assert_eq!(new, *id, "another change runs");
                self.members.retain(|member| member.id != *id);
                self.running = None;
                true
            }
            Act::Replace { pod, old, new } => {
                let lost = self.voters().any(|voter| voter.id == *old);
                assert!(lost, "no such voter");
                let mut left = after(*old);
                left.push(Known {
                    id: *new,
                    place: place_of(pod),
                    voter: true,
                });
                if !self.quorum(&left, Some(*new)) {
                    return false;
                }
                self.admit(pod, *new, Some(*old));
                self.running = Some((*old, *new, 0));
                true
            }
            Act::Release { pod } => {
                let place = place_of(pod);
                let own = self.voters().find(|voter| voter.place == place).copied();
                if let Some(own) = own {
                    if self.voters().count() < 3 {
                        return false;
                    }
                    assert!(
                        self.voters().all(|voter| *voter == own || self.is_caught_up(voter)),
                        "not to be spared"
                    );
                }
                self.disks[place] = self.fresh();
                true
            }
        }
    }

    fn admit(&mut self, pod: &str, id: u64, instead_of: Option<u64>) {
        let place = place_of(pod);
        let disk = self.disks[place];
        assert!(disk.up && disk.id == id, "nobody of this id answers");
        if self.members.iter().any(|member| member.id == id) {
            return;
        }
        assert_eq!(disk.state, MemberState::Blank, "an id is never used again");
        let taken = self
            .members
            .iter()
            .find(|member| member.place == place && Some(member.id) != instead_of);
        assert_eq!(taken, None, "the name is taken");
        self.members.push(Known { id, place, voter: false });
    }

    /// A live voter goes only while every voter that stays is there, and no act costs the majority.
    fn check(&self, act: &Act) {
        let (Act::Remove { id, .. }, None) = (act, self.running) else {
            return;
        };
        let Some(member) = self.voters().find(|voter| voter.id == *id) else {
            return;
        };
        if !self.is_live(member) {
            return;
        }
        let stays = |voter: &&Known| voter.place < self.desired as usize;
        assert!(
            self.voters().filter(stays).all(|voter| self.is_caught_up(voter)),
            "a live voter goes while another is missing"
        );
    }

    fn is_at_rest(&self) -> bool {
        let mut places: Vec<usize> = self.members.iter().map(|member| member.place).collect();
        places.sort_unstable();
        let good = |member: &Known| member.voter && self.is_live(member);
        self.members.iter().all(good) && places == (0..self.desired as usize).collect::<Vec<_>>()
    }

    /// One look and one act. False: there is nothing to do.
    fn step(&mut self, refusals: &mut u32) -> bool {
        self.fit_pods();
        if !self.leads() {
            self.running = None;
            return true;
        }
        let (evidence, group) = self.evidence();
        let Some(change) = next(&evidence, &group) else { return false };
        self.check(&change.act);
        if !self.carry_out(&change.act) {
            *refusals += 1;
        }
        self.fit_pods();
        true
    }
}

#[test]
fn whatever_happens_the_members_come_to_rest_and_none_is_risked_on_the_way() {
    let (mut acts, mut refused) = (0, 0);
    for seed in 1..=SEEDS {
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut world = World::new([1, 3, 5, 7][dice.roll(4)]);
        println!("seed {seed}");
        for _ in 0..FAULTS {
            world.fault(&mut dice);
            if dice.roll(2) == 0 {
                world.pass();
            }
            acts += u32::from(world.step(&mut refused));
        }
        for disk in &mut world.disks {
            disk.up = true;
        }
        let (mut refused_at_rest, mut steps) = (0, 0);
        while world.step(&mut refused_at_rest) {
            world.pass();
            steps += 1;
            assert!(steps < REST, "seed {seed} never ends: {world:#?}");
        }
        assert!(world.is_at_rest(), "seed {seed}: {world:#?}");
        assert_eq!(refused_at_rest, 0, "seed {seed}: the leader was asked for what it refuses");
    }
    // The faults must have made work, or nothing was shown.
    assert!(acts > 10_000, "{acts} acts, {refused} refused");
}
