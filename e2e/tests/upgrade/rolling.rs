//! A group whose members change their programs one by one, while clients write and faults strike.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use kvfleet_e2e::{
    dice::Dice,
    fleet::{Disks, Fleet, Program, Shape},
    history::{Keys, Load, Mix, Plan, Recorder},
    nemesis::Fault,
    verdict,
};

/// A group, its clients, and what happens to it.
pub struct Group {
    /// The members.
    pub fleet: Fleet,
    /// Clients that run from the beginning to the end.
    pub load: Load,
    runs: Vec<Program>,
    recorder: Recorder,
    prefix: String,
    dice: Dice,
    /// How long faults strike between two changes while the group is mixed; a quarter of it while it is not.
    span: Duration,
    mixed: Duration,
    loads: u64,
    struck: BTreeMap<Fault, u32>,
}

impl Group {
    /// Three members of one program, and clients of each.
    pub async fn start(program: &Program, seed: u64, span: Duration) -> Result<Self> {
        let shape = Shape {
            program: Some(program.clone()),
            ..Shape::three(Disks::Shared)
        };
        let fleet = Fleet::start(shape).await?;
        println!("logs in {}", fleet.logs());
        let dice = Dice::new(seed);
        let recorder = Recorder::new();
        let prefix = format!("upgrade-{seed}");
        let load = Load::start(&fleet, &plan(&prefix), &dice.fork(0), &recorder)?;
        Ok(Group {
            runs: vec![program.clone(); fleet.size()],
            fleet,
            load,
            recorder,
            prefix,
            dice,
            span,
            mixed: Duration::ZERO,
            loads: 1,
            struck: BTreeMap::new(),
        })
    }

    /// The members in a drawn order.
    pub fn order(&mut self) -> Vec<usize> {
        let mut members: Vec<usize> = (0..self.fleet.size()).collect();
        for place in (1..members.len()).rev() {
            members.swap(place, self.dice.index(place + 1));
        }
        members
    }

    /// One of them.
    pub fn any_member(&mut self) -> usize {
        self.dice.index(self.fleet.size())
    }

    /// SIGTERM, and a start with another program. As in any rolling update the others are ready before, and this one after.
    pub async fn replace(&mut self, number: usize, program: &Program) -> Result<()> {
        self.fleet.all_ready().await?;
        self.fleet.member(number).terminate()?;
        self.fleet.install(number, program);
        self.fleet.start_member(number)?;
        self.runs[number] = program.clone();
        self.fleet.ready(number).await?;
        Ok(())
    }

    /// Takes every member to a program, one after the other, with faults after each. The level stays what it is.
    pub async fn roll(&mut self, program: &Program, level: u64) -> Result<()> {
        for number in self.order() {
            self.replace(number, program).await?;
            self.stretch().await?;
            for member in 0..self.fleet.size() {
                let found = self.fleet.levels(member).await?;
                ensure!(found.level == level, "member {member} is at {found:?}, and level {level} is held");
            }
        }
        Ok(())
    }

    /// Faults for a while, and a burst of writes that are never written over; ends with a group that is ready and has served.
    pub async fn stretch(&mut self) -> Result<()> {
        let mixed = self.runs.iter().any(|program| *program != self.runs[0]);
        let span = if mixed { self.span } else { self.span / 4 };
        let begun = Instant::now();
        let once = Plan {
            clients: 1,
            mix: Mix::WRITES,
            keys: Keys::Once,
            ..plan(&self.prefix)
        };
        let mut once = Some(Load::start(&self.fleet, &once, &self.dice.fork(self.loads), &self.recorder)?);
        self.loads += 1;
        loop {
            let fault = Fault::draw(&mut self.dice);
            fault.strike(&mut self.fleet, &mut self.dice).await?;
            *self.struck.entry(fault).or_default() += 1;
            if let Some(mut once) = once.take() {
                once.more(30).await?;
                once.stop().await?;
            }
            let over = begun.elapsed() >= span;
            // Some faults meet a group that has recovered from the last, some do not.
            if over || self.dice.percent(60) {
                self.fleet.all_ready().await?;
                self.load.more(300).await?;
            }
            if over {
                break;
            }
        }
        if mixed {
            self.mixed += begun.elapsed();
        }
        Ok(())
    }

    /// Ends the load; the history must be explained, and no member may have found its rows to be others than the rest's.
    pub async fn judge(mut self, what: &str) -> Result<()> {
        self.load.stop().await?;
        let faults: u32 = self.struck.values().sum();
        let what = format!("{what}, {faults} faults, both programs for {:.0?}", self.mixed);
        verdict::judge(&mut self.fleet, &self.prefix, &self.recorder, &what).await;
        for member in &self.fleet.members {
            let apart = member.said().lines().find(|line| line.contains("quarantine")).map(str::to_owned);
            ensure!(apart.is_none(), "{what}: member {}: {}", member.name, apart.unwrap_or_default());
        }
        println!("faults: {:?}", self.struck);
        self.fleet.finish();
        Ok(())
    }
}

fn plan(prefix: &str) -> Plan<'_> {
    Plan {
        members: &[0, 1, 2],
        clients: 6,
        mix: Mix::MIXED,
        keys: Keys::Shared,
        timeout: Duration::from_millis(1_500),
        prefix,
    }
}
