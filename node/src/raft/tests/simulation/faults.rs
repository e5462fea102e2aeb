//! What goes wrong, and when it ends. The seed's dice decide.

use std::{collections::BTreeMap, time::Duration};

use super::{
    cluster::Cluster,
    member::{id, name},
};
use crate::log::fake::Dice;

/// Ends a fault.
enum End {
    Start(usize),
    Resume(usize),
    Repair(usize, usize),
    Release(usize, usize),
    FailRate,
    Clock(usize),
}

/// The faults under way.
#[derive(Default)]
pub(super) struct Faults {
    ends: BTreeMap<(u64, usize), End>,
    number: usize,
    pub(super) count: u64,
    pub(super) crashes: u64,
    pub(super) damaged: u64,
    next: u64,
}

impl Faults {
    /// What is due in this millisecond.
    pub(super) fn step(&mut self, cluster: &mut Cluster<'_>, dice: &mut Dice, tick: u64) {
        while let Some(entry) = self.ends.first_entry().filter(|entry| entry.key().0 <= tick) {
            end(cluster, entry.remove());
        }
        if tick < self.next {
            return;
        }
        self.next = tick + 100 + dice.roll(900);
        self.begin(cluster, dice, tick);
    }

    /// Ends everything.
    pub(super) fn heal(&mut self, cluster: &mut Cluster<'_>) {
        for (_, ending) in std::mem::take(&mut self.ends) {
            end(cluster, ending);
        }
    }

    fn until(&mut self, tick: u64, ending: End) {
        self.number += 1;
        self.ends.insert((tick, self.number), ending);
    }

    fn begin(&mut self, cluster: &mut Cluster<'_>, dice: &mut Dice, tick: u64) {
        self.count += 1;
        let seats = cluster.seats.len();
        let at = dice.roll(seats as u64) as usize;
        let other = (at + 1 + dice.roll(seats as u64 - 1) as usize) % seats;
        let long = tick + 200 + dice.roll(2_500);
        match dice.roll(20) {
            0..3 => self.crash(cluster, dice, at, long, false),
            3..6 => self.crash(cluster, dice, at, long, true),
            6 => {
                for at in 0..seats {
                    let until = tick + 50 + dice.roll(600);
                    self.crash(cluster, dice, at, until, true);
                }
            }
            7..10 => {
                if cluster.is_up(at) {
                    cluster.note(format!("m{at} is paused"));
                    cluster.process(at, |process| process.pause());
                    self.until(long, End::Resume(at));
                }
            }
            10..12 => {
                for other in (0..seats).filter(|other| *other != at) {
                    self.cut(cluster, at, other, long);
                }
            }
            12 => self.cut(cluster, at, other, long),
            13 | 14 => {
                if cluster.busy.insert(pair(at, other)) {
                    cluster.note(format!("nothing goes from m{at} to m{other}"));
                    cluster.sim.partition_oneway(name(at), name(other));
                    self.until(long, End::Repair(at, other));
                }
            }
            15 => {
                if cluster.busy.insert(pair(at, other)) {
                    cluster.note(format!("messages between m{at} and m{other} are held up"));
                    cluster.sim.hold(name(at), name(other));
                    self.until(tick + 50 + dice.roll(1_000), End::Release(at, other));
                }
            }
            16 => {
                cluster.note("messages are lost".to_owned());
                cluster.sim.set_fail_rate(0.02);
                self.until(long, End::FailRate);
            }
            17 | 18 => {
                // One clock at a time: however many members there are, the shard's time stands one that is wrong.
                if self.ends.values().any(|end| matches!(end, End::Clock(_))) {
                    return;
                }
                // Half of the time the leader's.
                let at = if dice.roll(2) == 0 { cluster.leader().unwrap_or(at) } else { at };
                let ahead = step(dice);
                cluster.note(format!("the clock of m{at} steps by {ahead} ms"));
                cluster.set_ahead(at, ahead);
                self.until(long + 3_000, End::Clock(at));
            }
            _ => self.damage(cluster, dice, at, long),
        }
    }

    fn cut(&mut self, cluster: &mut Cluster<'_>, at: usize, other: usize, until: u64) {
        if cluster.busy.insert(pair(at, other)) {
            cluster.note(format!("m{at} and m{other} are cut apart"));
            cluster.sim.partition(name(at), name(other));
            self.until(until, End::Repair(at, other));
        }
    }

    /// Kills a member, or cuts its power: then of what was not flushed, chance decides.
    fn crash(&mut self, cluster: &mut Cluster<'_>, dice: &mut Dice, at: usize, until: u64, power: bool) {
        if !cluster.is_up(at) {
            return;
        }
        self.crashes += 1;
        if power && dice.roll(2) == 0 {
            // In the middle of whatever it writes next.
            cluster.seats[at].disk.cut_after(dice.roll(8));
            cluster.step_by(Duration::from_millis(1 + dice.roll(3)));
        }
        cluster.crash(at);
        if power {
            cluster.seats[at].disk.power_cycle(dice);
            cluster.seats[at].store.power_cycle(dice);
        }
        cluster.note(format!("m{at} ({:x}) {}", id(at), if power { "loses power" } else { "is killed" }));
        self.until(until, End::Start(at));
    }

    /// Kills a member and changes a byte of its log. More than a minority may not be damaged.
    fn damage(&mut self, cluster: &mut Cluster<'_>, dice: &mut Dice, at: usize, until: u64) {
        if self.damaged as usize >= (cluster.seats.len() - 1) / 2 || !cluster.is_up(at) || cluster.world.tick() < 3_000 {
            return;
        }
        self.crash(cluster, dice, at, until, false);
        let disk = &cluster.seats[at].disk;
        let segments: Vec<_> = crate::log::Disk::names(disk)
            .unwrap()
            .into_iter()
            .filter(|file| file.ends_with(".seg"))
            .collect();
        let file = &segments[dice.roll(segments.len() as u64) as usize];
        let mut bytes = disk.bytes(file);
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) as u64 + 1;
        let place = dice.roll(used) as usize;
        bytes[place] ^= 1 << dice.roll(8);
        disk.set_bytes(file, &bytes);
        self.damaged += 1;
        cluster.note(format!("byte {place} of {file} on m{at} changes"));
    }
}

/// By how much a clock steps, milliseconds.
fn step(dice: &mut Dice) -> i64 {
    match dice.roll(6) {
        0 => 10_000,
        1 => -10_000,
        2 => 86_400_000,
        3 => -86_400_000,
        _ => dice.roll(20_000) as i64 - 10_000,
    }
}

fn pair(at: usize, other: usize) -> (usize, usize) {
    (at.min(other), at.max(other))
}

fn end(cluster: &mut Cluster<'_>, ending: End) {
    match ending {
        End::Start(at) => cluster.start(at),
        End::Resume(at) => {
            cluster.note(format!("m{at} is resumed"));
            cluster.process(at, |process| process.resume());
        }
        End::Repair(at, other) => {
            cluster.busy.remove(&pair(at, other));
            cluster.note(format!("m{at} and m{other} are connected again"));
            cluster.sim.repair(name(at), name(other));
        }
        End::Release(at, other) => {
            cluster.busy.remove(&pair(at, other));
            cluster.note(format!("messages between m{at} and m{other} arrive"));
            cluster.sim.release(name(at), name(other));
        }
        End::FailRate => {
            cluster.note("no more messages are lost".to_owned());
            cluster.sim.set_fail_rate(0.0);
        }
        End::Clock(at) => {
            cluster.note(format!("the clock of m{at} is right again"));
            cluster.set_ahead(at, 0);
        }
    }
}
