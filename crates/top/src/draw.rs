//! A frame: title, table, the past of the selected device, what happened, keys.
//!
//! Colour never stands alone: every coloured word says the same without its colour.

mod over;
mod past;
mod recent;
mod rows;

use crate::app::{App, Over, Tab, View};
use crate::columns::Tone;
use crate::tables::{Health, state_tone};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

/// Screens smaller than this show a sentence instead.
const SMALLEST: (u16, u16) = (60, 12);

/// Draws `app`.
pub fn draw(app: &App, frame: &mut Frame<'_>) {
    let area = frame.area();
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        let (width, height) = SMALLEST;
        let text = format!("This window is too small: {width}x{height} is needed, q quits");
        frame.render_widget(Paragraph::new(text), area);
        return;
    }
    let table = app.table();
    let head = match &app.view {
        View::Overview => 1,
        View::Subsystem { .. } => 3,
    };
    let past = past::height(app);
    let rows = u16::try_from(table.rows()).unwrap_or(u16::MAX).saturating_add(3).max(5);
    let [head_area, table_area, past_area, recent_area, foot_area] = Layout::vertical([
        Constraint::Length(head),
        Constraint::Max(rows.min(area.height.saturating_sub(head + 1 + past + 4)).max(5)),
        Constraint::Length(past),
        Constraint::Min(3),
        Constraint::Length(1),
    ])
    .areas(area);
    draw_head(app, frame, head_area);
    let selected = app.selected_index(&table);
    rows::draw(app, &table, selected, frame, table_area);
    let device = selected.map(|row| table.name(row));
    past::draw(app, device, frame, past_area);
    recent::draw(app, frame, recent_area);
    draw_foot(app, frame, foot_area);
    over::draw(app, frame);
}

/// The colour of a tone.
fn style(tone: Tone) -> Style {
    match tone {
        Tone::Plain => Style::new(),
        Tone::Faint => Style::new().fg(Color::DarkGray),
        Tone::Good => Style::new().fg(Color::Green),
        Tone::Warning => Style::new().fg(Color::Yellow),
        Tone::Bad => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
    }
}

fn title_style() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

fn draw_head(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let mut title = vec![Span::styled("interlock top", title_style())];
    let lost = app.snapshot.subsystems.iter().filter(|one| Health::of(one) == Health::Lost).count();
    let degraded = app.snapshot.subsystems.iter().filter(|one| Health::of(one) == Health::Degraded).count();
    for (count, word, tone) in [(lost, "lost", Tone::Bad), (degraded, "degraded", Tone::Warning)] {
        if count > 0 {
            title.push(Span::styled(format!("  {count} {word}"), style(tone)));
        }
    }
    if lost + degraded == 0 && !app.snapshot.subsystems.is_empty() {
        title.push(Span::styled("  all ok", style(Tone::Good)));
    }
    match app.findings().len() {
        0 => {}
        1 => title.push(Span::raw("  w: 1 finding")),
        findings => title.push(Span::raw(format!("  w: {findings} findings"))),
    }
    // Last, because it may be long and is the least news.
    title.push(Span::styled(format!("  {}", app.source), style(Tone::Faint)));
    let pace = if app.paused { "  paused".to_owned() } else { format!("  every {} s", app.delay.as_secs()) };
    let [left, right] =
        Layout::horizontal([Constraint::Min(0), Constraint::Length(u16::try_from(pace.len()).unwrap_or_default())])
            .areas(Rect { height: 1, ..area });
    frame.render_widget(Line::from(title), left);
    frame.render_widget(Line::raw(pace), right);
    if let View::Subsystem { name, tab } = &app.view {
        draw_subsystem(app, name, *tab, frame, Rect { y: area.y + 1, height: 2, ..area });
    }
}

fn draw_subsystem(app: &App, name: &str, tab: Tab, frame: &mut Frame<'_>, area: Rect) {
    let Some(subsystem) = app.snapshot.subsystem(name) else { return };
    let mut first = Line::from(vec![Span::styled(name.to_owned(), title_style()), Span::raw("  ")]);
    let mut wide = first.width();
    for controller in &subsystem.controllers {
        if wide >= usize::from(area.width) {
            break;
        }
        let name = Span::raw(format!("{} ", controller.name));
        let state = Span::styled(format!("{}  ", controller.state), style(state_tone(&controller.state)));
        wide += name.width() + state.width();
        first.extend([name, state]);
    }
    let mut second: Vec<Span<'_>> = Tab::ALL
        .iter()
        .enumerate()
        .flat_map(|(number, &one)| {
            let text = format!("{} {}", number + 1, tab_name(one));
            let shown = if one == tab { title_style().add_modifier(Modifier::REVERSED) } else { Style::new() };
            [Span::styled(format!(" {text} "), shown), Span::raw(" ")]
        })
        .collect();
    let policy = subsystem.iopolicy.as_deref().unwrap_or("no multipath");
    second.push(Span::styled(format!(" {policy}  {}  {}", subsystem.nqn, subsystem.model), style(Tone::Faint)));
    frame.render_widget(Paragraph::new(vec![first, Line::from(second)]), area);
}

const fn tab_name(tab: Tab) -> &'static str {
    match tab {
        Tab::Paths => "Paths",
        Tab::Controllers => "Controllers",
        Tab::Namespaces => "Namespaces",
    }
}

fn draw_foot(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let line = if app.over == Over::Filter {
        Line::from(format!("filter: {}_   Enter keeps it, Esc takes it away", app.filter.text()))
    } else if let Some(notice) = &app.notice {
        Line::styled(notice.text.clone(), style(if notice.bad { Tone::Bad } else { Tone::Good }))
    } else {
        let open = if app.view == View::Overview { "Enter open" } else { "Tab turn  Esc back" };
        let filter = if app.filter.is_empty() { String::new() } else { format!("  [{}]", app.filter.text()) };
        let keys = format!("{open}  / filter  s sort  t past  w health  r reset  h help  q quit{filter}");
        Line::styled(keys, style(Tone::Faint))
    };
    frame.render_widget(line, area);
}
