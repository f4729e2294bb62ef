//! The terminal, the clock and the source.

use crate::app::{App, Effect, Key};
use crate::draw;
use crate::keyboard::{Keyboard, Waited};
use interlock_observe::{Counter, Source};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How the monitor starts.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Time between samples.
    pub delay: Duration,
}

/// A wait for keys is cut into pieces of this length, so that a signal is noticed.
const PATIENCE: Duration = Duration::from_millis(250);

/// Runs until the reader quits, the terminal is taken away, or the program is told to end.
///
/// # Errors
/// If standard output is no terminal, or the terminal fails.
pub fn run(source: &mut dyn Source, options: Options) -> io::Result<()> {
    if !io::stdout().is_terminal() {
        return Err(io::Error::other("top needs a terminal; for a script, use `top --once`"));
    }
    let ended = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&ended))?;
    }
    let keyboard = Keyboard::find()?;
    // Also puts the terminal back if the program panics.
    let mut terminal = ratatui::try_init()?;
    let result = attend(&mut terminal, &keyboard, source, options, &ended);
    if matches!(result, Ok(Ended::TerminalGone)) {
        return Ok(());
    }
    ratatui::try_restore()?;
    result.map(|_| ())
}

/// Why the monitor ends.
enum Ended {
    Asked,
    /// There is nothing to put back.
    TerminalGone,
}

fn attend(
    terminal: &mut ratatui::DefaultTerminal,
    keyboard: &Keyboard,
    source: &mut dyn Source,
    options: Options,
    ended: &AtomicBool,
) -> io::Result<Ended> {
    let mut app = App::new(source.describe(), options.delay);
    let mut next = Instant::now();
    let mut stale = true;
    // One read may bring several keys, of which the terminal itself knows nothing any more.
    let mut more = false;
    while !ended.load(Ordering::Relaxed) {
        let now = Instant::now();
        if now >= next
            && let Some(delay) = app.delay()
        {
            sample(&mut app, source);
            next = now + delay;
            stale = true;
        }
        if stale {
            terminal.draw(|frame| draw(&app, frame))?;
            stale = false;
        }
        let wait = next.saturating_duration_since(Instant::now()).min(PATIENCE);
        let wait = if app.delay().is_none() { PATIENCE } else { wait };
        if keyboard.wait(if more { Duration::ZERO } else { wait })? == Waited::Gone {
            return Ok(Ended::TerminalGone);
        }
        more = event::poll(Duration::ZERO)?;
        if !more {
            continue;
        }
        stale = true;
        let Some(key) = key(&event::read()?) else { continue };
        match app.handle_key(key) {
            Effect::None => {}
            Effect::Quit => return Ok(Ended::Asked),
            Effect::Sample => next = Instant::now(),
            Effect::Reset(counters) => {
                reset(&mut app, source, &counters);
                next = Instant::now();
            }
        }
    }
    Ok(Ended::Asked)
}

fn sample(app: &mut App, source: &mut dyn Source) {
    match source.sample() {
        Ok(snapshot) => {
            let events = source.happened();
            app.handle_sample(snapshot);
            if let Some(events) = events {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                app.handle_happened(events, u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
            }
        }
        Err(error) => app.handle_failure(error.to_string()),
    }
}

fn reset(app: &mut App, source: &mut dyn Source, counters: &[Counter]) {
    let mut done = 0;
    let mut failed = None;
    for counter in counters {
        match source.reset(counter) {
            Ok(()) => done += 1,
            Err(error) => failed = failed.or_else(|| Some(error.to_string())),
        }
    }
    app.handle_reset(done, failed);
}

/// A terminal's event as a [`Key`]; `None` for what is none (a resize draws again all the same).
fn key(event: &Event) -> Option<Key> {
    let Event::Key(KeyEvent { code, modifiers, kind: KeyEventKind::Press | KeyEventKind::Repeat, .. }) = event else {
        return None;
    };
    Some(match code {
        KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => Key::Interrupt,
        KeyCode::Char(c) => Key::Char(*c),
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::Left => Key::Left,
        KeyCode::Right => Key::Right,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Esc,
        KeyCode::Backspace => Key::Backspace,
        KeyCode::Tab => Key::Tab,
        KeyCode::BackTab => Key::BackTab,
        _ => return None,
    })
}
