//! The table.

use super::{style, title_style};
use crate::app::App;
use crate::columns::{Cell, Column, Table};
use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Block, Borders, Row, Table as TableWidget, TableState};

pub(super) fn draw(app: &App, table: &Table, selected: Option<usize>, frame: &mut Frame<'_>, area: Rect) {
    let order = app.order();
    let count = table.rows.len();
    let by = table.columns[order.column].title;
    let arrow = if order.reverse { " reversed" } else { "" };
    let block = Block::new()
        .borders(Borders::TOP)
        .title(Line::styled(format!(" {} {count} ", table.title), title_style()))
        .title(Line::raw(format!(" by {by}{arrow} ")).alignment(Alignment::Right));
    // A first column that is as wide as its longest name: names are what one looks for.
    let mut table = table.clone();
    let longest = table.rows.iter().map(|row| row.cells[0].text.chars().count()).max().unwrap_or_default();
    let first = &mut table.columns[0];
    first.width = first.width.max(u16::try_from(longest.min(32)).unwrap_or(32));
    let shown = table.fitting(area.width);
    let header = Row::new(shown.iter().map(|&at| {
        let column = &table.columns[at];
        let style = if at == order.column { title_style().add_modifier(Modifier::UNDERLINED) } else { title_style() };
        aligned(column, Line::styled(column.title, style))
    }));
    let rows = table.rows.iter().map(|row| Row::new(shown.iter().map(|&at| cell(&table.columns[at], &row.cells[at]))));
    let widths = shown.iter().map(|&at| Constraint::Length(table.columns[at].width));
    let widget = TableWidget::new(rows, widths)
        .header(header)
        .block(block)
        .column_spacing(1)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::new().with_selected(selected);
    frame.render_stateful_widget(widget, area, &mut state);
    if count == 0 {
        let text = if app.filter.is_empty() { "Nothing here." } else { "Nothing here has all words of the filter." };
        let y = area.y + 2;
        if y < area.bottom() {
            frame.render_widget(Line::raw(text), Rect { y, height: 1, ..area });
        }
    }
}

fn cell(column: &Column, cell: &Cell) -> Text<'static> {
    let width = usize::from(column.width);
    let mut text = cell.text.clone();
    if text.chars().count() > width {
        // What is cut says so.
        text = text.chars().take(width.saturating_sub(1)).chain(['…']).collect();
    }
    aligned(column, Line::styled(text, style(cell.tone)))
}

fn aligned(column: &Column, line: Line<'static>) -> Text<'static> {
    Text::from(line.alignment(if column.right { Alignment::Right } else { Alignment::Left }))
}
