//! The rollout between machines that are cut off, crash and have clocks of their own: two controllers at one log, three
//! orchestrators, in virtual time.
#![expect(clippy::disallowed_methods, reason = "a crash of the simulated machine ends its tasks")]

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use orchestrator::rollout::Rollout;
use prost::Message as _;
use proto::RolloutPlan;
use telemetry::rollout::server::plan;
use telemetry::rollout::{Cost, Cursor, Entry, Exposed, Failures, Line, Matured, Seen, State, Tick, replay};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use turmoil::net::{TcpListener, TcpStream};

/// Seeds that are run; `FIRSTLINE_SEEDS` says otherwise.
const SEEDS: u64 = 200;
const PORT: u16 = 7706;
const CONTROLLERS: [&str; 2] = ["controller-0", "controller-1"];
const ORCHESTRATORS: [&str; 3] = ["orchestrator-0", "orchestrator-1", "orchestrator-2"];
const INTERVAL: Duration = Duration::from_secs(1);
/// Between two samples of an orchestrator.
const SAMPLE: Duration = Duration::from_millis(100);
/// What a call over the network may take.
const PATIENCE: Duration = Duration::from_millis(400);
/// How long faults go on, and how long everything may take to come to rest after them.
const TROUBLE: Duration = Duration::from_secs(40);
const REST: Duration = Duration::from_secs(20);

const PLAN: &str = r#"
[rollout]
id = "r"
categories = ["cards"]
interval_s = 1
min_customers = 20
[[stage]]
name = "p1"
share = 0.01
min_hours = 0.0005
approval = false
[[stage]]
name = "p10"
share = 0.1
min_hours = 0.0005
approval = false
[[stage]]
name = "p50"
share = 0.5
[[guard]]
metric = "escalation_unplanned"
"#;

/// What a machine keeps when it crashes, and what is seen from outside.
#[derive(Debug, Clone)]
struct World {
    seed: u64,
    /// The log of the store.
    log: Arc<Mutex<Vec<Line>>>,
    /// What each orchestrator last did: how often it had heard the controller, its version and its share.
    did: Arc<Mutex<[(u64, u64, u32); 3]>>,
}

/// Numbers that look random and are the same in every run.
fn mixed(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 16
}

impl World {
    fn random(&self, of: u64) -> u64 {
        mixed(self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ mixed(of))
    }

    /// Whether every orchestrator does what the last decision says.
    fn agrees(&self) -> bool {
        let log = self.log.lock().unwrap();
        let last = &log.last().unwrap().decision;
        let wanted = (last["version"].as_u64(), last["share"].as_u64());
        let did = *self.did.lock().unwrap();
        did.iter()
            .all(|(heard, version, share)| *heard > 0 && (Some(*version), Some(u64::from(*share))) == wanted)
    }

    /// What a look sees: mostly nothing bad, sometimes nothing, sometimes nonsense, and harm in every third world.
    fn tick(&self, seq: i64, state: &State) -> Tick {
        let random = self.random(seq.unsigned_abs());
        let share = state.share();
        let harmful = self.seed.is_multiple_of(3) && seq > 12;
        let (treated, control) = if harmful { (40, 20) } else { (2, 20) };
        let seen = |n, events| Seen { n, events, rated: 0 };
        let matured = Matured {
            metric: bundle::rollout::Metric::EscalationUnplanned,
            share,
            sticky: true,
            treated: seen(60, treated),
            control: seen(600, control),
        };
        let stage = state.stage().name.clone();
        let exposed = Exposed { stage, share, sticky: true, treated: 0, control: 0 };
        Tick {
            turns: if random.is_multiple_of(7) { 0 } else { 100 },
            exposed: vec![exposed],
            matured: if share > 0 && !random.is_multiple_of(7) { vec![matured] } else { Vec::new() },
            cost: Cost::default(),
            last: Failures::default(),
            seen: Cursor::default(),
            fault: if random.is_multiple_of(11) { "nothing to be read".to_owned() } else { String::new() },
            ..Tick::default()
        }
    }
}

async fn send(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    stream.write_u32(u32::try_from(bytes.len()).unwrap()).await?;
    stream.write_all(bytes).await
}

async fn receive(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; stream.read_u32().await? as usize];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// The store: a request is a line to append, or a number after which to read; the answer is all lines after it.
async fn store(world: World) -> turmoil::Result {
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        let world = world.clone();
        tokio::spawn(async move {
            while let Ok(request) = receive(&mut stream).await {
                let (after, line): (i64, Option<Line>) = serde_json::from_slice(&request).unwrap();
                let lines: Vec<Line> = {
                    let mut log = world.log.lock().unwrap();
                    // The number of the line is the key of the table: whoever is late has lost.
                    let next = log.len() as i64 + 1;
                    log.extend(line.filter(|line| line.seq == next));
                    log.iter().filter(|line| line.seq > after).cloned().collect()
                };
                if send(&mut stream, &serde_json::to_vec(&lines).unwrap()).await.is_err() {
                    return;
                }
            }
        });
    }
}

/// One call of the store, on a connection of its own.
async fn ask(after: i64, line: Option<&Line>) -> io::Result<Vec<Line>> {
    let call = async {
        let mut stream = TcpStream::connect(("store", PORT)).await?;
        send(&mut stream, &serde_json::to_vec(&(after, line))?).await?;
        Ok(serde_json::from_slice(&receive(&mut stream).await?)?)
    };
    timeout(PATIENCE, call).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// What a controller knows of the log.
#[derive(Default)]
struct Known {
    seq: i64,
    state: Option<State>,
}

impl Known {
    fn take(&mut self, lines: Vec<Line>) -> bool {
        let any = !lines.is_empty();
        for line in lines {
            let entry = serde_json::from_value(line.entry).unwrap();
            match &mut self.state {
                Some(state) => drop(state.step(line.at_us, &entry).unwrap()),
                None => self.state = Some(State::begin(line.at_us, &entry).unwrap().0),
            }
            self.seq = line.seq;
        }
        any
    }

    /// The line that follows by this controller's clock; `None` when it is not time.
    fn look(&self, world: &World, now_us: i64) -> Option<Line> {
        let mut state = self.state.clone()?;
        if now_us - state.looked_us() < INTERVAL.as_micros() as i64 {
            return None;
        }
        let entry = Entry::Observed(world.tick(self.seq + 1, &state));
        let decision = state.step(now_us, &entry).unwrap();
        Some(line(self.seq + 1, now_us, &entry, &decision))
    }
}

fn line(seq: i64, at_us: i64, entry: &Entry, decision: &telemetry::rollout::Decision) -> Line {
    let value = |text: String| serde_json::from_str(&text).unwrap();
    let (entry, decision) = (serde_json::to_string(entry), serde_json::to_string(decision));
    Line { seq, at_us, entry: value(entry.unwrap()), decision: value(decision.unwrap()) }
}

/// A controller whose clock is `skew` ahead; it forgets everything when it crashes.
async fn controller(world: World, skew: Duration) -> turmoil::Result {
    let told = watch::Sender::new(None::<RolloutPlan>);
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    let plans = told.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut plans = plans.subscribe();
            plans.mark_changed();
            tokio::spawn(async move {
                while plans.changed().await.is_ok() {
                    let plan = plans.borrow_and_update().clone();
                    let Some(plan) = plan else { continue };
                    if send(&mut stream, &plan.encode_to_vec()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    let mut known = Known::default();
    loop {
        if let Ok(lines) = ask(known.seq, None).await
            && known.take(lines)
        {
            told.send_replace(known.state.as_ref().map(plan));
        }
        let now_us = (turmoil::sim_elapsed().unwrap_or_default() + skew).as_micros() as i64;
        if let Some(line) = known.look(&world, now_us)
            && let Ok(lines) = ask(known.seq, Some(&line)).await
            && known.take(lines)
        {
            told.send_replace(known.state.as_ref().map(plan));
        }
        sleep(SAMPLE).await;
    }
}

/// An orchestrator that listens to one controller after the other.
async fn orchestrator(world: World, me: usize) -> turmoil::Result {
    let rollout = Arc::new(Rollout::new(None, true, 1.0));
    let heard = Arc::new(Mutex::new((0_u64, 0_u64)));
    let (listening, words) = (rollout.clone(), heard.clone());
    tokio::spawn(async move {
        for turn in me.. {
            sleep(SAMPLE).await;
            let to = CONTROLLERS[turn % CONTROLLERS.len()];
            let Ok(Ok(mut stream)) = timeout(PATIENCE, TcpStream::connect((to, PORT))).await else {
                continue;
            };
            while let Ok(Ok(bytes)) = timeout(3 * INTERVAL, receive(&mut stream)).await {
                let plan = RolloutPlan::decode(bytes.as_slice()).unwrap();
                let version = plan.version;
                if listening.hear(plan) {
                    let mut heard = words.lock().unwrap();
                    *heard = (heard.0 + 1, version);
                }
            }
        }
    });
    let (mut words, mut share) = ((0, 0), 0);
    loop {
        let (heard, now) = (*heard.lock().unwrap(), rollout.share());
        assert!(now <= share || heard.0 > words.0, "seed {}: {me} raises its share by itself", world.seed);
        assert!(heard.1 >= words.1, "seed {}: {me} follows an older plan", world.seed);
        let most = allowed(&world, heard.1);
        assert!(now <= most, "seed {}: {me} treats {now} where the plan says {most}", world.seed);
        (words, share) = (heard, now);
        world.did.lock().unwrap()[me] = (heard.0, heard.1, now);
        sleep(SAMPLE).await;
    }
}

/// The share of a version of the plan.
fn allowed(world: &World, version: u64) -> u32 {
    let log = world.log.lock().unwrap();
    let of = log.iter().rev().find(|line| line.decision["version"].as_u64() == Some(version));
    of.map_or(0, |line| u32::try_from(line.decision["share"].as_u64().unwrap()).unwrap())
}

fn run(seed: u64) {
    let entry = Entry::Applied {
        plan: Box::new(bundle::rollout::parse(PLAN).unwrap()),
        by: "anna".to_owned(),
        seen: Cursor::default(),
    };
    let first = line(1, 0, &entry, &State::begin(0, &entry).unwrap().1);
    let world = World { seed, log: Arc::new(Mutex::new(vec![first])), did: Arc::default() };
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .tick_duration(Duration::from_millis(20))
        .simulation_duration(TROUBLE + 2 * REST + INTERVAL)
        .build();
    let kept = world.clone();
    sim.host("store", move || store(kept.clone()));
    for (me, name) in CONTROLLERS.into_iter().enumerate() {
        let kept = world.clone();
        let skew = Duration::from_millis(world.random(me as u64) % 2000);
        sim.host(name, move || controller(kept.clone(), skew));
    }
    for (me, name) in ORCHESTRATORS.into_iter().enumerate() {
        let kept = world.clone();
        sim.host(name, move || orchestrator(kept.clone(), me));
    }
    trouble(&mut sim, &world);
    assert!(world.agrees(), "seed {seed}: all is whole again, but {:?}", world.did.lock().unwrap());
    let log = world.log.lock().unwrap();
    let harmed = log.iter().any(|line| line.decision["action"] == "rolled_back");
    assert!(!harmed || log.last().unwrap().decision["share"] == 0, "seed {seed}");
    check(&log, seed);
}

/// Cuts, crashes and mends, and then lets everything come to rest.
fn trouble(sim: &mut turmoil::Sim<'_>, world: &World) {
    let names = [&["store"], &CONTROLLERS[..], &ORCHESTRATORS[..]].concat();
    let mut step = 0;
    while sim.elapsed() < TROUBLE {
        step += 1;
        sim.step().unwrap();
        let random = world.random(1_000_000 + step);
        if !u64::is_multiple_of(step, 25) {
            continue;
        }
        let one = names[random as usize % names.len()];
        let other = names[(random >> 8) as usize % names.len()];
        match (random >> 16) % 6 {
            _ if one == other => {}
            0 | 1 => sim.partition(one, other),
            2 | 3 => sim.repair(one, other),
            4 if CONTROLLERS.contains(&one) => sim.crash(one),
            5 if CONTROLLERS.contains(&one) => sim.bounce(one),
            _ => {}
        }
    }
    for (index, one) in names.iter().enumerate() {
        names[index + 1..].iter().for_each(|other| sim.repair(*one, *other));
    }
    CONTROLLERS.into_iter().for_each(|name| sim.bounce(name));
    // What was decided at the very end may still be on its way.
    while sim.elapsed() < TROUBLE + REST || !world.agrees() && sim.elapsed() < TROUBLE + 2 * REST {
        sim.step().unwrap();
    }
}

/// One line of decisions that can be made again, in which the share rises on nothing bad and harm is rolled back at once.
fn check(log: &[Line], seed: u64) {
    let lines: Vec<_> = log.iter().map(|line| serde_json::to_string(line).unwrap()).collect();
    let made =
        replay(lines.iter().map(String::as_str)).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    for (pair, line) in made.windows(2).zip(&log[1..]) {
        let [before, after] = pair else { continue };
        let fails = after.readings.iter().any(|reading| reading.verdict == telemetry::rollout::Verdict::Fail);
        assert!(after.version >= before.version, "seed {seed}");
        assert!(!fails || after.share == 0, "seed {seed}: harm is left");
        if after.share > before.share {
            let seen = &line.entry["observed"];
            assert!(seen["fault"] == "" && seen["turns"] != 0, "seed {seed}: it rises on {seen}");
        }
    }
}

#[test]
fn no_share_rises_without_cause_whatever_is_cut_off_or_crashes() {
    let seeds = std::env::var("FIRSTLINE_SEEDS").map_or(SEEDS, |seeds| seeds.parse().unwrap());
    (0..seeds).for_each(run);
}
