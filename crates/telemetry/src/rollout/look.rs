//! What the controller makes of what it sees.

use bundle::rollout::{Action as Do, Kind, Metric};

use super::control::{Action, Decision, HOUR_US, Phase, State};
use super::guard::{self, Reading, Verdict};
use super::tick::{Seen, Tick};
use super::unseen;

/// Looks without data after which the share goes a stage down; again after as many.
const BLIND: u32 = 4;
/// Evidence at which customers count as assigned otherwise than the share says.
const MISASSIGNED: f64 = 100.0;
/// Treated turns that the tripwire of failures looks at; with fewer it says nothing.
const LAST: u64 = 20;
/// Chance at which a certificate is wrong.
const CERTIFICATE_ALPHA: f64 = 0.05;

impl State {
    /// Adds what was seen, and decides.
    pub(super) fn look(&mut self, at_us: i64, tick: &Tick) -> Decision {
        let wrong =
            if at_us < self.looked_us { Some("the clock went back".to_owned()) } else { tick.wrong() };
        self.looked_us = self.looked_us.max(at_us);
        if wrong.is_none() {
            self.take(tick);
        }
        let least = u64::from(self.plan.min_customers);
        let evidence = if self.is_mirroring() { &self.unseen } else { &self.evidence };
        let read = |guard| guard::read(guard, evidence, least, self.costly);
        let readings: Vec<_> = self.plan.guards.iter().map(read).collect();
        let acting = || readings.iter().filter(|reading| !reading.dry_run);
        let worst = acting().map(|reading| reading.verdict).max().unwrap_or(Verdict::Inconclusive);
        let decision = if self.phase == Phase::RolledBack {
            self.decision(Action::Kept, Vec::new())
        } else if let Some(reasons) = self.harm(tick, wrong.as_deref(), acting()) {
            self.roll_back(at_us, reasons)
        } else {
            let held = self.doubts(tick, wrong.as_deref(), acting());
            self.go_on(at_us, tick, wrong.is_some(), held, acting())
        };
        let verdict = if wrong.is_some() { worst.max(Verdict::Error) } else { worst };
        Decision { verdict, readings, ..decision }
    }

    fn take(&mut self, tick: &Tick) {
        self.evidence.add(tick);
        self.unseen.add_matured(&tick.unseen);
        self.seen = tick.seen.clone();
        let here = tick.exposed.iter().filter(|row| row.stage == self.plan.stages[self.stage].name);
        self.customers += here.map(|row| row.treated).sum::<u64>();
        if self.is_mirroring() {
            self.customers = self.unseen.treated(Metric::EscalationUnplanned).n;
        }
        let cap = self.plan.guards.iter().find(|guard| guard.kind == Kind::Cap).map(|guard| guard.cap_usd);
        let mean = tick.cost.nanos as f64 / 1e9 / tick.cost.turns as f64;
        match cap {
            Some(cap) if tick.cost.turns > 0 && mean > cap => self.costly += 1,
            // What nobody asked for says nothing of what it costs.
            _ if tick.cost.turns == 0 => {}
            _ => self.costly = 0,
        }
    }

    /// Whether the assistant answers unseen and nobody is treated.
    fn is_mirroring(&self) -> bool {
        self.stage().mirror > 0.0
    }

    /// What rolls back at once.
    fn harm<'r>(
        &self,
        tick: &Tick,
        wrong: Option<&str>,
        acting: impl Iterator<Item = &'r Reading>,
    ) -> Option<Vec<String>> {
        let breached =
            |reading: &&Reading| reading.verdict == Verdict::Fail && reading.action == Do::Rollback;
        let mut reasons: Vec<_> = acting.filter(breached).map(said).collect();
        if wrong.is_none() {
            let (failed, most) = (tick.last.failed, self.plan.tripwires.failed_share);
            if tick.last.turns >= LAST && failed as f64 >= most * tick.last.turns as f64 {
                reasons.push(format!("tripwire: {failed} of the last {LAST} treated turns failed"));
            }
            if tick.incidents > 0 {
                reasons.push(format!("tripwire: people confirmed {} leaks or wrong effects", tick.incidents));
            }
        }
        (!reasons.is_empty()).then_some(reasons)
    }

    /// Why the share may not rise.
    fn doubts<'r>(
        &self,
        tick: &Tick,
        wrong: Option<&str>,
        acting: impl Iterator<Item = &'r Reading>,
    ) -> Vec<String> {
        let mut reasons: Vec<String> = wrong.map(|what| format!("ERROR: {what}")).into_iter().collect();
        reasons.extend(self.held.as_ref().map(|words| format!("held: {words}")));
        reasons.extend(acting.filter(|reading| reading.verdict == Verdict::Fail).map(said));
        if self.evidence.misassigned() >= libm::log(MISASSIGNED) {
            reasons.push("INVALID: customers are not assigned as the share says".to_owned());
        }
        if tick.strangers > 0 {
            let what = format!("INVALID: {} customers met another bundle than the candidate", tick.strangers);
            reasons.push(what);
        }
        if wrong.is_none() && tick.turns == 0 {
            reasons.push("INCONCLUSIVE: no turn was recorded since the last look".to_owned());
        }
        reasons
    }

    fn go_on<'r>(
        &mut self,
        at_us: i64,
        tick: &Tick,
        wrong: bool,
        held: Vec<String>,
        acting: impl Iterator<Item = &'r Reading>,
    ) -> Decision {
        self.blind = if wrong || tick.turns == 0 { self.blind + 1 } else { 0 };
        if self.blind > 0 && self.blind.is_multiple_of(BLIND) && self.can_step_down(wrong) {
            return self.step_down(held);
        }
        if !held.is_empty() {
            return self.decision(Action::Held, held);
        }
        let missing = self.missing(at_us, acting);
        match (missing.is_empty(), self.lowered) {
            (true, Some(_)) => self.step_up(vec!["what lowered the share is over".to_owned()]),
            (true, None) if self.stage + 1 < self.plan.stages.len() => self.advance(at_us),
            _ => Decision { missing, ..self.decision(Action::Kept, Vec::new()) },
        }
    }

    /// What the share waits for until it may rise.
    fn missing<'r>(&self, at_us: i64, acting: impl Iterator<Item = &'r Reading>) -> Vec<String> {
        // Where nobody is treated nothing can be seen: a person says that it may begin again.
        if self.lowered.is_some() && self.share() == 0 {
            let asked = "a person's approval, since the share was lowered to nothing".to_owned();
            return (!self.approved).then_some(asked).into_iter().collect();
        }
        let counts = |reading: &&Reading| match self.is_mirroring() {
            true => self.is_shown_unseen(reading.metric),
            false => self.share() > 0,
        };
        let unsure = acting.filter(|reading| reading.verdict != Verdict::Pass).filter(counts).map(said);
        let rises = self.lowered.is_none() && self.stage + 1 < self.plan.stages.len();
        let gates = if rises { self.gates(at_us) } else { Vec::new() };
        unsure.chain(gates).collect()
    }

    /// Whether a guard has something to say of unseen answers: what is compared with the menu has not.
    fn is_shown_unseen(&self, metric: Metric) -> bool {
        let guard = self.plan.guards.iter().find(|guard| guard.metric == metric);
        guard.is_some_and(|guard| guard.kind == Kind::Absolute) && unseen::shows(metric)
    }

    /// What the stage itself still asks for.
    fn gates(&self, at_us: i64) -> Vec<String> {
        let stage = self.stage();
        let mut missing = Vec::new();
        let hours = (at_us - self.entered_us) as f64 / HOUR_US;
        if hours < stage.min_hours {
            missing.push(format!(
                "{:.1} of {} hours in stage {}",
                hours.max(0.0),
                stage.min_hours,
                stage.name
            ));
        }
        if self.customers < stage.min_customers.into() {
            let (n, least, name) = (self.customers, stage.min_customers, &stage.name);
            let who = if self.is_mirroring() { "conversations answered unseen" } else { "treated customers" };
            missing.push(format!("{n} of {least} {who} in stage {name}"));
        }
        let Seen { n, events, .. } = self.unseen.treated(Metric::EscalationUnplanned);
        if self.is_mirroring() && events as f64 > stage.max_escalation * n as f64 {
            let most = stage.max_escalation * 100.0;
            missing.push(format!(
                "unseen answers that help: {events} of {n} would go to a person unplanned, allowed {most} %"
            ));
        }
        for (metric, ratio) in &stage.certificate {
            if self.evidence.deficit(*metric, *ratio) < -libm::log(CERTIFICATE_ALPHA) {
                let metric = name(*metric);
                missing
                    .push(format!("a certificate that {metric} is below {ratio} times that of the control"));
            }
        }
        if stage.approval && !self.approved {
            missing.push("a person's approval".to_owned());
        }
        missing
    }

    fn advance(&mut self, at_us: i64) -> Decision {
        (self.stage, self.version) = (self.stage + 1, self.version + 1);
        (self.entered_us, self.customers, self.approved) = (at_us, 0, false);
        self.decision(Action::Advanced, vec!["every gate is open".to_owned()])
    }

    /// Where merely nobody writes the share stays above nothing, so that it can be seen when somebody does.
    fn can_step_down(&self, wrong: bool) -> bool {
        self.share() > 0 && (wrong || self.fallback() > 0)
    }

    fn step_down(&mut self, reasons: Vec<String>) -> Decision {
        let at = self.lowered.unwrap_or(self.stage);
        self.version += 1;
        match at.checked_sub(1) {
            Some(below) => {
                self.lowered = Some(below);
                self.decision(Action::SteppedDown, reasons)
            }
            // There is no stage below the first: the menu is.
            None => self.roll_back(self.looked_us, reasons),
        }
    }

    fn step_up(&mut self, reasons: Vec<String>) -> Decision {
        self.version += 1;
        self.lowered = self.lowered.map(|stage| stage + 1).filter(|stage| *stage < self.stage);
        self.approved = false;
        self.decision(Action::SteppedUp, reasons)
    }
}

/// A reading in a line.
fn said(reading: &Reading) -> String {
    let Reading { metric, verdict, words, .. } = reading;
    let verdict = match verdict {
        Verdict::Pass => "PASS",
        Verdict::Inconclusive => "INCONCLUSIVE",
        Verdict::Error => "ERROR",
        Verdict::Fail => "FAIL",
    };
    format!("{}: {verdict}, {words}", name(*metric))
}

/// A metric as the plan spells it.
pub fn name(metric: Metric) -> &'static str {
    match metric {
        Metric::EscalationUnplanned => "escalation_unplanned",
        Metric::Dissatisfied => "dissatisfied",
        Metric::UngroundedDelivered => "ungrounded_delivered",
        Metric::UngroundedGenerated => "ungrounded_generated",
        Metric::Misrouted => "misrouted",
        Metric::Failed => "failed",
        Metric::LatencyOverSla => "latency_over_sla",
        Metric::CostPerRequest => "cost_per_request",
    }
}
