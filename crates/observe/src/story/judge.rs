//! What the events mean: how safe it was, how long which stage took, what was foretold, what to change.

use super::trace::{At, Life, Reset, Trace};
use interlock_api::{
    CcrAnswer, DetectedHow, Felt, FencePolicy, Method, Safety, StageName, Story, StoryStage, StoryState, Version, Way,
};

pub(super) fn judge(trace: &Trace) -> Story {
    let safety = safety(trace);
    let receipt = trace.fenced.as_ref().map(|(_, receipt)| receipt.clone());
    let path = trace.was.as_ref().map(|life| life.path.clone()).or_else(|| receipt.as_ref().map(|r| r.path.clone()));
    Story {
        format_version: Version,
        id: trace.id,
        unix_ms: trace.unix_ms,
        subsystem: trace.subsystem.clone(),
        lost: Way { controller: trace.controller.clone(), path },
        life: trace.life.clone(),
        state: trace.state,
        detected: trace.how,
        reason: trace.reason.clone(),
        in_doubt: trace.condemned.map(|(_, in_doubt, ..)| in_doubt),
        settled: trace.condemned.map(|(_, _, settled, _)| settled),
        answered_late: trace.answered_late,
        safety,
        method: method(trace),
        source: source(trace),
        verdict: verdict(trace, safety),
        stages: stages(trace),
        went_to: trace.ways.clone(),
        felt: felt(trace),
        reconnect_attempts: trace.back.attempts,
        notes: notes(trace),
        advice: advice(trace),
        receipt,
    }
}

fn method(trace: &Trace) -> Option<Method> {
    trace.fenced.as_ref().map(|(_, receipt)| receipt.method).or(trace.tombstone_ended.map(|(_, method)| method))
}

fn source(trace: &Trace) -> Option<Way> {
    let source = trace.fenced.as_ref()?.1.source.as_ref()?;
    Some(Way { controller: source.controller.clone(), path: Some(source.path.clone()) })
}

fn safety(trace: &Trace) -> Safety {
    match method(trace) {
        Some(Method::Immediate | Method::Log | Method::DrainedDisable | Method::Time) => Safety::Proven,
        Some(Method::Assumed) => Safety::Assumed,
        Some(Method::Legacy | Method::AcceptedRisk) => Safety::Unsafe,
        None if trace.tombstone.is_some() => Safety::Guarded,
        None if trace.not_needed.is_some() => Safety::NotNeeded,
        None => Safety::Pending,
    }
}

/// Why what was repeated could be repeated, in one sentence.
fn verdict(trace: &Trace, safety: Safety) -> String {
    let by = source(trace).map_or_else(String::new, |way| format!(" through {}", way.controller));
    let receipt = trace.fenced.as_ref().map(|(_, receipt)| receipt);
    match (safety, method(trace)) {
        (Safety::Proven, Some(Method::Immediate)) => format!("proven by Cross-Controller Reset{by}, at once"),
        (Safety::Proven, Some(Method::Log)) => {
            format!("proven by Cross-Controller Reset{by}, when its log page said that it was done")
        }
        (Safety::Proven, Some(Method::DrainedDisable)) => {
            "proven by a disable, on a target that was declared to drain first".into()
        }
        (Safety::Proven, _) => {
            let cqt = receipt.and_then(|receipt| receipt.cqt_ms).unwrap_or_default();
            format!(
                "proven by time: the target states that it quiesces within {} after it missed Keep Alive",
                span(cqt as f64)
            )
        }
        (Safety::Assumed, _) => {
            let quiesces = receipt.and_then(|receipt| receipt.assumed_cqt_ms.or(receipt.cqt_ms)).unwrap_or_default();
            let kato = receipt.and_then(|receipt| receipt.assumed_kato_ms).map_or_else(String::new, |kato| {
                format!(", with a Keep Alive Timeout of {} that it does not report", span(kato as f64))
            });
            format!("assumed, and not proven, that the target quiesces within {}{kato}", span(quiesces as f64))
        }
        (Safety::Unsafe, Some(Method::AcceptedRisk)) => {
            "UNSAFE: an operator accepted the risk and declared it over".into()
        }
        (Safety::Unsafe, _) => {
            "UNSAFE: commands were repeated at once (policy `legacy`); an old write may follow a newer one".into()
        }
        (Safety::Guarded, _) => {
            "ended without a fence: nothing was repeated, and what overlaps it is kept from being written".into()
        }
        (Safety::NotNeeded, _) if trace.answered_late > 0 => "safe: everything in doubt was answered late".into(),
        (Safety::NotNeeded, _) => "safe: nothing was in doubt, so there was nothing to fence".into(),
        (Safety::Pending, _) if trace.state == StoryState::Interrupted => {
            "the daemon ended before the fence: what was in doubt is fenced by its successor before anything is written"
                .into()
        }
        (Safety::Pending, _) => "the fence is awaited: nothing in doubt has been repeated".into(),
    }
}

/// Milliseconds from the loss.
fn after(trace: &Trace, at: At) -> f64 {
    let nanos = i128::from(at) - i128::from(trace.lost);
    // Microseconds are enough, and print well.
    (nanos as f64 / 1e3).round() / 1e3
}

fn stages(trace: &Trace) -> Vec<StoryStage> {
    let at = |moment: At| after(trace, moment);
    let mut stages = Vec::new();
    let mut stage = |name: StageName, from: f64, to: Option<f64>, text: String| {
        let ms = to.map(|to| ((to - from).max(0.0) * 1e3).round() / 1e3);
        stages.push(StoryStage { name, from_ms: from, ms, text });
    };
    let age = trace.condemned.and_then(|(.., age)| age).map_or(0.0, |ms| ms as f64);
    stage(StageName::Detect, -age, Some(0.0), detect(trace, age));
    if let Some((when, in_doubt, settled, _)) = trace.condemned {
        let text = format!("every lane stopped: {in_doubt} in doubt, {settled} not");
        stage(StageName::Condemn, 0.0, Some(at(when)), text);
    }
    if let Some(hold) = trace.hold {
        let text = "no byte can leave this host any more (t0)".into();
        stage(StageName::Stop, 0.0, Some(at(hold.t0)), text);
    }
    let proof = trace.fenced.as_ref().map(|(_, receipt)| receipt);
    for reset in &trace.resets {
        let done = reset_done(trace, reset).map(at);
        stage(StageName::Reset, at(reset.sent), done, told(reset));
    }
    if let Some(hold) = trace.hold {
        let by_time = proof.is_some_and(|receipt| matches!(receipt.method, Method::Time | Method::Assumed));
        let end = trace.fenced.as_ref().filter(|_| by_time).map(|(when, _)| at(*when));
        stage(StageName::Hold, at(hold.t0), end, held(hold.ms, by_time, trace));
    }
    if let (Some((when, receipt)), Some((released, commands))) = (&trace.fenced, trace.released) {
        // The receipt is told when everything is ready; the proof may have come before.
        let fenced = receipt.fenced_ms as f64 - (trace.lost / 1_000_000) as f64;
        let from = if (0.0..=at(*when)).contains(&fenced) { fenced } else { at(*when) };
        stage(StageName::Release, from.min(at(released)), Some(at(released)), format!("{commands} commands released"));
    }
    if let Some((first, times)) = trace.back.wanted {
        let text = format!(
            "asked {} for a reconnect by an operator or a hook (policy `notify`)",
            if times == 1 { "once".into() } else { format!("{times} times") }
        );
        stage(
            StageName::Wait,
            at(first),
            trace.back.tried.or(trace.back.ended.as_ref().map(|(at, _)| *at)).map(at),
            text,
        );
    }
    if let Some(tried) = trace.back.tried {
        let ended = trace.back.live.or(trace.back.ended.as_ref().map(|(at, _)| *at));
        stage(StageName::Reconnect, at(tried), ended.map(at), reconnect(trace));
    }
    if let (Some(live), Some(good)) = (trace.back.live, trace.back.first_good) {
        stage(
            StageName::FirstIo,
            at(live),
            Some(at(good)),
            format!("first I/O through the new life of {}", trace.controller),
        );
    }
    stages.sort_by(|a, b| a.from_ms.total_cmp(&b.from_ms));
    stages
}

fn detect(trace: &Trace, age: f64) -> String {
    let how = match trace.how {
        DetectedHow::ConnectionReset => "the peer reset the connection",
        DetectedHow::ConnectionClosed => "the peer closed the connection",
        DetectedHow::TransportError => "the connection broke",
        DetectedHow::KeepAlive => "Keep Alive had no answer",
        DetectedHow::CommandTimeout => "a command had no answer in time",
        DetectedHow::TermRequest => "the peer said that this host broke the protocol, and ended the connection",
        DetectedHow::ProtocolError => "the peer broke the protocol",
        DetectedHow::AnaTransition => "an ANA group stayed in the Change state for too long",
        DetectedHow::Operator => "an operator asked for it",
        DetectedHow::Predecessor => "found in the records of an earlier process",
    };
    if age > 0.0 { format!("{how}; the oldest in doubt had waited for this time") } else { how.into() }
}

/// When a reset brought the proof, or was answered with anything else.
fn reset_done(trace: &Trace, reset: &Reset) -> Option<At> {
    let (answered, answer, _) = reset.answered.as_ref()?;
    if *answer != CcrAnswer::Accepted {
        return Some(*answered);
    }
    let (fenced, receipt) = trace.fenced.as_ref()?;
    let by = receipt.source.as_ref()?;
    (receipt.method == Method::Log && by.controller == reset.source).then_some(*fenced)
}

fn told(reset: &Reset) -> String {
    let through = &reset.source;
    match &reset.answered {
        None => format!("Cross-Controller Reset through {through}: not answered in time"),
        Some((_, CcrAnswer::Immediate, _)) => format!("Cross-Controller Reset through {through}: done at once"),
        Some((_, CcrAnswer::Accepted, _)) => {
            format!("Cross-Controller Reset through {through}: accepted, done when its log page says so")
        }
        Some((_, CcrAnswer::Refused, why)) => {
            format!(
                "Cross-Controller Reset through {through}: refused: {}",
                why.as_deref().unwrap_or("no reason given")
            )
        }
    }
}

fn held(ms: Option<u64>, by_time: bool, trace: &Trace) -> String {
    match ms {
        None => "no time ends it: Keep Alive is off".into(),
        Some(ms) if by_time => format!("waited out: {}", span(ms as f64)),
        Some(ms) if trace.fenced.is_some() || trace.not_needed.is_some() => {
            format!("would have taken {}; the fence came first", span(ms as f64))
        }
        Some(ms) => format!("takes {} at most", span(ms as f64)),
    }
}

fn reconnect(trace: &Trace) -> String {
    let back = &trace.back;
    let tries = if back.attempts == 1 { "1 attempt".into() } else { format!("{} attempts", back.attempts) };
    let failed = back.last_error.as_ref().map_or_else(String::new, |why| format!("; the last that failed: {why}"));
    match (&back.live, &back.ended) {
        (Some(_), _) => format!("{tries}: {} is back as a new life{failed}", trace.controller),
        (None, Some((_, why))) => format!("{tries}, then ended: {why}{failed}"),
        (None, None) => format!("{tries} so far{failed}"),
    }
}

/// True if nothing else was connected to which commands could go.
fn was_alone(trace: &Trace) -> bool {
    trace.ways.iter().all(|way| way.controller == trace.controller)
}

fn felt(trace: &Trace) -> Felt {
    let predicted = trace.was.as_ref().map(|life| life.predicted);
    let age = trace.condemned.and_then(|(.., age)| age).unwrap_or_default() as f64;
    let moved = trace.released.map(|(at, _)| at).or(trace.not_needed).or(trace.tombstone.map(|(at, ..)| at));
    let back = if was_alone(trace) { trace.back.live } else { None };
    let end = match (moved, back) {
        (Some(moved), back) if !was_alone(trace) || back.is_some() => Some(moved.max(back.unwrap_or(moved))),
        _ => None,
    };
    let longest = end.map(|end| age + after(trace, end)).filter(|_| trace.how != DetectedHow::Predecessor);
    let Some(predicted) = predicted else {
        return Felt {
            longest_ms: longest,
            foretold_ms: None,
            within: None,
            because: "not known: it began before what is kept".into(),
        };
    };
    let detect = if is_silent(trace.how) { predicted.detect_ms } else { Some(0) };
    let fence = predicted.hold_ms.map(|hold| predicted.stop_ms + hold);
    let alone = was_alone(trace);
    let notified = trace.back.wanted.is_some();
    let needed = fence.map(|fence| if alone { fence.max(predicted.reconnect_ms) } else { fence });
    let foretold = detect.zip(needed).map(|(detect, needed)| detect + needed).filter(|_| !(alone && notified));
    let within = end.zip(needed).filter(|_| foretold.is_some()).map(|(end, needed)| after(trace, end) <= needed as f64);
    let mut parts = Vec::new();
    if let Some(detect) = detect.filter(|detect| *detect > 0) {
        parts.push(format!("{} to notice", span(detect as f64)));
    }
    parts.push(format!("{} to stop", span(predicted.stop_ms as f64)));
    parts.push(match predicted.hold_ms {
        None => "a hold that no time ends".into(),
        Some(0) => "no hold (policy `legacy`)".into(),
        Some(hold) if predicted.assumed => format!("{} to hold, by assumption", span(hold as f64)),
        Some(hold) => format!("{} to hold", span(hold as f64)),
    });
    if alone {
        parts.push(if notified {
            "until an operator reconnects it".into()
        } else {
            format!("or {} to reconnect", span(predicted.reconnect_ms as f64))
        });
    }
    Felt { longest_ms: longest, foretold_ms: foretold, within, because: parts.join(", ") }
}

/// True if nobody told: the loss had to be noticed.
const fn is_silent(how: DetectedHow) -> bool {
    matches!(how, DetectedHow::KeepAlive | DetectedHow::CommandTimeout)
}

fn notes(trace: &Trace) -> Vec<String> {
    let mut notes = Vec::new();
    let mut note = |so: bool, text: String| {
        if so {
            notes.push(text);
        }
    };
    note(
        trace.answered_late > 0,
        format!("{} commands in doubt were answered late, and not repeated", trace.answered_late),
    );
    note(trace.dropped_late > 0, format!("{} answers came after the fence and were dropped", trace.dropped_late));
    for source in &trace.stale_logs {
        note(true, format!("{source} was not asked to reset it: its log page held an entry of an earlier life"));
    }
    note(trace.lane_silent, "a reactor was slow to stop: nothing was released meanwhile".into());
    note(trace.owner_unconfirmed, "the state directory did not answer in time: what was fenced waited for it".into());
    note(trace.lingers, "sockets of the earlier process still existed: time did not count meanwhile".into());
    if let Some(at) = trace.fast_io_fail {
        let text =
            format!("fast_io_fail_tmo passed after {}: I/O that was not in doubt failed", span(after(trace, at)));
        note(true, text);
    }
    if let Some((_, commands, left)) = trace.tombstone {
        let until =
            left.map_or("until a fence succeeds".into(), |left| format!("for at most {} more", span(left as f64)));
        note(true, format!("{commands} commands ended with an unknown outcome, their ranges stay guarded {until}"));
    }
    if let Some((at, method)) = trace.tombstone_ended {
        note(true, format!("the guard ended after {} ({})", span(after(trace, at)), word(method)));
    }
    let failed = if trace.conflicts == 1 { "1 command".into() } else { format!("{} commands", trace.conflicts) };
    note(
        trace.conflicts > 0,
        format!("{failed} failed with Reservation Conflict meanwhile: another host holds a reservation, no path helps"),
    );
    if let Some((_, receipt)) = &trace.fenced {
        receipt.notes.iter().for_each(|text| note(true, text.clone()));
    }
    notes
}

/// What to change, the most important first.
fn advice(trace: &Trace) -> Vec<String> {
    let mut advice = Vec::new();
    let name = &trace.controller;
    let was = trace.was.as_ref();
    let mut say = |so: bool, text: String| {
        if so {
            advice.push(text);
        }
    };
    say(
        method(trace) == Some(Method::Legacy) || was.is_some_and(|life| life.fence == FencePolicy::Legacy),
        format!("fence before repeating: `interlock set {name} --fence-policy strict`"),
    );
    say(
        method(trace) == Some(Method::Assumed),
        "ask the vendor how long a lost controller can continue to write; use a target with CCR (TP8028) or CQT (TP4129)"
            .into(),
    );
    say(
        trace.tombstone.is_some() && trace.tombstone_ended.is_none() && trace.fenced.is_none(),
        "connect another path to the subsystem: through it the lost life can be reset and what is guarded freed".into(),
    );
    let waited = matches!(method(trace), Some(Method::Time | Method::Assumed));
    say(waited, why_waited(trace, was));
    say(
        trace.how == DetectedHow::KeepAlive && was.is_some_and(|life| life.kato_ms >= 2_000),
        was.map_or_else(String::new, |life| {
            format!("a shorter Keep Alive Timeout notices a silent loss sooner: -k (now {})", span(life.kato_ms as f64))
        }),
    );
    say(
        was_alone(trace) && !matches!(trace.how, DetectedHow::Operator | DetectedHow::Predecessor),
        "connect a second path to the subsystem: commands had nowhere to go until this one was back".into(),
    );
    say(
        trace.back.wanted.is_some(),
        "run `interlock reconnect` from a hook, or let the host reconnect: `--on-loss reconnect`".into(),
    );
    say(
        trace.back.attempts > 1 && trace.back.last_error.is_some(),
        format!("look at the port of {name}: {}", trace.back.last_error.as_deref().unwrap_or_default()),
    );
    say(
        trace.conflicts > 0,
        "find the host that holds the reservation (`nvme resv-report` on a host that has nvme-cli): until it is released, \
         commands of this host fail"
            .into(),
    );
    say(trace.lane_silent, "look at the load of the machine: a reactor did not get to run".into());
    advice
}

fn why_waited(trace: &Trace, was: Option<&Life>) -> String {
    let refused = trace.resets.iter().find_map(|reset| match &reset.answered {
        Some((_, CcrAnswer::Refused, why)) => Some((reset, why)),
        _ => None,
    });
    let held = trace.hold.and_then(|hold| hold.ms).map_or_else(String::new, |ms| format!(" ({})", span(ms as f64)));
    match (was.is_some_and(|life| life.ccr), refused) {
        (false, _) => {
            format!("the target cannot reset a lost controller, so time had to{held}: a shorter -k shortens it")
        }
        (true, Some((reset, why))) => format!(
            "ask why {} refused to reset it ({}): the whole hold{held} was waited for",
            reset.source,
            why.as_deref().unwrap_or("no reason given")
        ),
        (true, None) if trace.resets.is_empty() => {
            format!(
                "keep a second path connected: nobody was there to reset it, and the whole hold{held} was waited for"
            )
        }
        (true, None) => {
            format!("the reset was not done in time: look at the target; the whole hold{held} was waited for")
        }
    }
}

/// A method in one word.
pub(super) const fn word(method: Method) -> &'static str {
    match method {
        Method::Immediate | Method::Log => "CCR",
        Method::DrainedDisable => "disable",
        Method::Time => "time",
        Method::Assumed => "assumed",
        Method::Legacy => "NONE",
        Method::AcceptedRisk => "RISK",
    }
}

/// A span as people say it.
pub(super) fn span(ms: f64) -> String {
    match ms.abs() {
        ms_abs if ms_abs < 9.95 => format!("{ms:.1} ms"),
        ms_abs if ms_abs < 999.5 => format!("{ms:.0} ms"),
        ms_abs if ms_abs < 99_950.0 => format!("{:.1} s", ms / 1e3),
        ms_abs if ms_abs < 7_200_000.0 => format!("{:.0} min", ms / 6e4),
        _ => format!("{:.0} h", ms / 3.6e6),
    }
}
