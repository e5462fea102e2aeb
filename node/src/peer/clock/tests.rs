use super::*;

const NOON: u64 = 1_800_000_000_000;
const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;
/// How often a leader sends a frame to each of the others.
const FRAMES: Duration = Duration::from_millis(75);
/// What a stamp may be off by for being heard and not asked for.
const CLOSE: u64 = 100;

/// Members and their machines: clocks that can be set, and monotonic time that cannot.
struct Fleet {
    clocks: Vec<Clock>,
    ahead: Vec<i64>,
    begun: Instant,
    now: Instant,
}

impl Fleet {
    fn of(members: usize) -> Fleet {
        let clocks: Vec<Clock> = (0..members).map(|at| Clock::new(at as u64)).collect();
        for clock in &clocks {
            clock.set_voters((0..members as u64).collect());
        }
        let begun = Instant::now();
        Fleet {
            ahead: vec![0; members],
            clocks,
            begun,
            now: begun,
        }
    }

    /// The true time.
    fn truth(&self) -> u64 {
        NOON + millis(self.now - self.begun)
    }

    fn wall(&self, at: usize) -> u64 {
        self.truth().saturating_add_signed(self.ahead[at])
    }

    fn frame(&self, from: usize, to: usize) {
        let (clock_ms, stamp_ms) = self.clocks[from].speak_at(self.wall(from), self.now);
        self.clocks[to].hear_at(from as u64, clock_ms, stamp_ms, self.now);
    }

    /// Time passes while this member leads.
    fn pass(&mut self, time: Duration, leader: usize) {
        for (at, clock) in self.clocks.iter().enumerate() {
            clock.set_leading(at == leader);
        }
        let until = self.now + time;
        while self.now < until {
            self.clocks[leader].look_at(self.wall(leader), self.now, false);
            for at in (0..self.clocks.len()).filter(|at| *at != leader) {
                self.frame(at, leader);
                self.frame(leader, at);
            }
            self.now += FRAMES.min(until - self.now);
        }
    }

    fn stamp(&self, leader: usize) -> u64 {
        self.clocks[leader].stamp_at(|| self.wall(leader), self.now)
    }

    fn local(&self, at: usize) -> u64 {
        self.clocks[at].local_at(0, || self.wall(at), self.now)
    }
}

fn close(found: u64, expected: u64) -> bool {
    found.abs_diff(expected) <= CLOSE
}

#[test]
fn no_clock_that_is_stepped_moves_time_whoever_leads_and_however_many_there_are() {
    for members in [1, 2, 3, 5] {
        for wrong in 0..members.min(3) {
            for step in [10_000, -10_000, 2 * HOUR, -2 * HOUR, DAY, -DAY] {
                let mut fleet = Fleet::of(members);
                fleet.pass(Duration::from_secs(5), 0);
                fleet.ahead[wrong] = step;
                for leader in [0, members - 1, wrong] {
                    let before = fleet.stamp(leader);
                    fleet.pass(Duration::from_secs(10), leader);
                    let ran = fleet.stamp(leader) - before;
                    let what = format!("{members} members, {wrong} stepped by {step} ms, {leader} leads: {ran} ms in 10 s");
                    if members > 1 {
                        assert!(close(ran, 10_000), "{what}");
                        assert!(close(fleet.stamp(leader), fleet.truth()), "{what}");
                    } else {
                        assert!(close(ran, if step > 0 { 10_100 } else { 9_000 }), "{what}");
                    }
                    for at in 0..members {
                        assert!(close(fleet.local(at), fleet.stamp(leader)), "{what}, {at} reads");
                    }
                }
            }
        }
    }
}

#[test]
fn time_that_stood_still_on_all_machines_catches_up_at_once() {
    for members in [1, 2, 3, 5] {
        for (wrong, off) in [(0, 0), (0, DAY), (0, -DAY), (members - 1, DAY), (members - 1, -DAY)] {
            // A single member has but its own clock, and one of two that is behind is a reason to doubt the other.
            if off != 0 && (members == 1 || (members == 2 && off < 0)) {
                continue;
            }
            let mut fleet = Fleet::of(members);
            for clock in &fleet.clocks {
                clock.lock().raise(NOON.saturating_add_signed(-DAY), fleet.now);
            }
            fleet.ahead[wrong] = off;
            fleet.pass(Duration::from_millis(300), 0);
            assert!(
                close(fleet.stamp(0), fleet.truth()),
                "{members} members, {wrong} is off by {off} ms: {} ms",
                difference(fleet.stamp(0), fleet.truth())
            );
        }
    }
}

#[test]
fn time_that_is_ahead_goes_on_slower_until_the_clocks_have_come_up() {
    for members in [1, 2, 3, 5] {
        let mut fleet = Fleet::of(members);
        for clock in &fleet.clocks {
            clock.lock().raise(NOON.saturating_add_signed(DAY), fleet.now);
        }
        fleet.pass(Duration::from_secs(100), 0);
        let ran = fleet.stamp(0) - NOON.saturating_add_signed(DAY);
        assert!(close(ran, 90_000), "{members} members: {ran} ms in 100 s");

        let mut fleet = Fleet::of(members);
        for clock in &fleet.clocks {
            clock.lock().raise(NOON + 1_000, fleet.now);
        }
        fleet.pass(Duration::from_secs(11), 0);
        assert!(close(fleet.stamp(0), fleet.truth()), "{members} members");
    }
}

#[test]
fn a_member_alone_follows_its_clock_slowly_and_believes_it_at_a_start() {
    let mut fleet = Fleet::of(1);
    fleet.pass(Duration::from_secs(1), 0);
    fleet.ahead[0] = HOUR;
    fleet.pass(Duration::from_secs(100), 0);
    let last = fleet.stamp(0);
    assert!(
        close(last, fleet.truth() + 1_000),
        "a hundredth faster: {}",
        difference(last, fleet.truth())
    );
    // The process is started again.
    let again = Clock::new(0);
    again.set_voters(vec![0]);
    again.lock().raise(last, fleet.now);
    assert_eq!(again.stamp_at(|| fleet.wall(0), fleet.now), fleet.wall(0));
    let later = fleet.now + Duration::from_secs(10);
    let stepped = fleet.wall(0) + HOUR.unsigned_abs();
    assert_eq!(again.stamp_at(|| stepped, later), fleet.wall(0) + 10_100, "once");
}

#[test]
fn the_first_stamp_of_a_group_is_no_single_members() {
    let now = Instant::now();
    let clock = Clock::new(1);
    clock.set_voters(Vec::new());
    // Their votes; who the voters are is known a moment later.
    clock.hear_at(2, NOON, 0, now);
    clock.hear_at(3, NOON + 3, 0, now);
    clock.set_voters(vec![1, 2, 3]);
    let day_ahead = NOON.saturating_add_signed(DAY);
    assert_eq!(clock.stamp_at(|| day_ahead, now), NOON + 3);
}

#[test]
fn a_stamp_never_goes_back() {
    let mut fleet = Fleet::of(3);
    fleet.pass(Duration::from_secs(1), 0);
    let first = fleet.stamp(0);
    fleet.clocks[0].hear_at(1, fleet.wall(1), first + 500, fleet.now);
    assert_eq!(fleet.stamp(0), first + 500, "a stamp heard is the least that the next one is");
    fleet.ahead = vec![-DAY; 3];
    for _ in 0..100 {
        let before = fleet.stamp(0);
        fleet.pass(Duration::from_millis(20), 0);
        assert!(fleet.stamp(0) > before, "nor does it stand still");
    }
}

#[test]
fn time_passes_however_often_it_is_asked_for() {
    for ahead in [0, HOUR, -HOUR] {
        let clock = Clock::new(1);
        clock.set_voters(vec![1]);
        let mut now = Instant::now();
        let begun = now;
        let first = clock.stamp_at(|| NOON, now);
        while now < begun + Duration::from_secs(1) {
            now += Duration::from_micros(70);
            clock.stamp_at(|| (NOON + millis(now - begun)).saturating_add_signed(ahead), now);
        }
        let expected = if ahead > 0 {
            1_010
        } else if ahead < 0 {
            900
        } else {
            1_000
        };
        let ran = clock.stamp_at(|| NOON, now) - first;
        assert!(ran.abs_diff(expected) <= 3, "ahead by {ahead}: {ran} ms in a second");
    }
}

#[test]
fn clocks_of_strangers_and_old_news_do_not_count() {
    let clock = Clock::new(1);
    clock.set_voters(vec![1, 2, 3]);
    let now = Instant::now();
    clock.hear_at(8, NOON + 9_000, 0, now);
    clock.hear_at(9, NOON + 9_000, 0, now);
    assert_eq!(clock.stamp_at(|| NOON, now), NOON);
    clock.hear_at(2, NOON + 9_000, 0, now);
    clock.hear_at(3, NOON + 9_000, 0, now);
    let later = now + FRESH + Duration::from_millis(1);
    assert_eq!(clock.stamp_at(|| NOON + 30_001, later), NOON + 30_001);
}

#[test]
fn strangers_are_not_remembered_without_bound() {
    let clock = Clock::new(1);
    for stranger in 2..1_000 {
        clock.hear_at(stranger, NOON, 0, Instant::now());
    }
    assert_eq!(clock.lock().clocks.len(), STRANGERS);
}

#[test]
fn a_follower_repeats_what_it_heard() {
    let clock = Clock::new(1);
    clock.set_voters(vec![1, 2, 3]);
    let now = Instant::now();
    clock.hear_at(2, NOON, NOON, now);
    assert_eq!(clock.speak_at(NOON + 7, now + Duration::from_secs(1)), (NOON + 7, NOON));
    assert_eq!(clock.local_at(0, || 0, now + Duration::from_secs(1)), NOON + 1_000);
    assert_eq!(clock.local_at(u64::MAX, || 0, now), u64::MAX);
}

#[test]
fn local_reads_do_not_go_back_for_a_frame_that_was_held_up() {
    let clock = Clock::new(1);
    clock.set_voters(vec![1, 2, 3]);
    let now = Instant::now();
    clock.hear_at(2, NOON, NOON, now);
    let later = now + Duration::from_secs(1);
    assert_eq!(clock.local_at(0, || 0, later), NOON + 1_000);
    clock.hear_at(2, NOON + 100, NOON + 100, later);
    assert_eq!(clock.local_at(0, || 0, later), NOON + 1_000);
    assert_eq!(clock.local_at(0, || 0, later + Duration::from_secs(1)), NOON + 1_100);
}

#[test]
fn a_step_of_the_own_clock_is_told_once() {
    let clock = Clock::new(1);
    let now = Instant::now();
    let look = |after_ms: u64, ahead: i64, held_up: bool| {
        let moment = now + Duration::from_millis(after_ms);
        clock.look_at((NOON + after_ms).saturating_add_signed(ahead), moment, held_up)
    };
    assert_eq!(look(0, 0, false), None);
    assert_eq!(look(100, 20, false), None, "it is slewed");
    assert_eq!(look(200, 2 * HOUR, false), Some(2 * HOUR - 20));
    assert_eq!(look(300, 2 * HOUR, false), None);
    assert_eq!(look(400, DAY, true), None, "the process was stopped between the two readings");
    assert_eq!(look(500, 0, false), None, "and what came before says nothing of what comes after");
    assert_eq!(look(600, -DAY, false), Some(-DAY));
}
