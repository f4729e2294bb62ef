//! The table.

use super::{style, title_style};
use crate::app::App;
use crate::columns::{Cell, Column, Table, fitting};
use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Block, Borders, Row, Table as TableWidget, TableState};
use std::ops::Range;

/// Lines above the first row: the border with the title, and the titles of the columns.
const ABOVE: u16 = 2;

pub(super) fn draw(app: &App, table: &Table<'_>, selected: Option<usize>, frame: &mut Frame<'_>, area: Rect) {
    let order = app.order();
    let count = table.rows();
    let by = table.columns[order.column].title;
    let arrow = if order.reverse { " reversed" } else { "" };
    let block = Block::new()
        .borders(Borders::TOP)
        .title(Line::styled(format!(" {} {count} ", table.title), title_style()))
        .title(Line::raw(format!(" by {by}{arrow} ")).alignment(Alignment::Right));
    // A first column that is as wide as its longest name: names are what one looks for.
    let mut columns = table.columns.clone();
    let longest = (0..count).map(|row| table.name(row).chars().count()).max().unwrap_or_default();
    columns[0].width = columns[0].width.max(u16::try_from(longest.min(32)).unwrap_or(32));
    let shown = fitting(&columns, area.width);
    let header = Row::new(shown.iter().map(|&at| {
        let column = &columns[at];
        let style = if at == order.column { title_style().add_modifier(Modifier::UNDERLINED) } else { title_style() };
        aligned(column, Line::styled(column.title, style))
    }));
    let visible = visible(count, selected, usize::from(area.height.saturating_sub(ABOVE)));
    let first = visible.start;
    let highlighted = selected.filter(|row| visible.contains(row)).map(|row| row - first);
    let rows = visible.map(|row| Row::new(shown.iter().map(|&at| cell(&columns[at], table.cell(row, at)))));
    let widths = shown.iter().map(|&at| Constraint::Length(columns[at].width));
    let widget = TableWidget::new(rows, widths)
        .header(header)
        .block(block)
        .column_spacing(1)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::new().with_selected(highlighted);
    frame.render_stateful_widget(widget, area, &mut state);
    if count == 0 {
        let text = if app.filter.is_empty() { "Nothing here." } else { "Nothing here has all words of the filter." };
        let y = area.y + 2;
        if y < area.bottom() {
            frame.render_widget(Line::raw(text), Rect { y, height: 1, ..area });
        }
    }
}

/// The rows that `lines` show: from the first on, unless the selected one would be below them; then it is the last.
fn visible(count: usize, selected: Option<usize>, lines: usize) -> Range<usize> {
    let first = selected.map_or(0, |row| (row + 1).saturating_sub(lines));
    first..count.min(first + lines)
}

fn cell(column: &Column, cell: Cell) -> Text<'static> {
    let width = usize::from(column.width);
    let mut text = cell.text;
    if text.chars().count() > width {
        // What is cut says so.
        text = text.chars().take(width.saturating_sub(1)).chain(['…']).collect();
    }
    aligned(column, Line::styled(text, style(cell.tone)))
}

fn aligned(column: &Column, line: Line<'static>) -> Text<'static> {
    Text::from(line.alignment(if column.right { Alignment::Right } else { Alignment::Left }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::columns::tests::{COLUMNS, Counted};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use std::rc::Rc;
    use std::time::Duration;

    #[test]
    fn the_selected_row_is_on_the_screen() {
        assert_eq!(visible(3, Some(2), 10), 0..3);
        assert_eq!(visible(100, Some(9), 10), 0..10);
        assert_eq!(visible(100, Some(10), 10), 1..11);
        assert_eq!(visible(100, Some(99), 10), 90..100);
        assert!(visible(0, None, 10).is_empty() && visible(100, Some(5), 0).is_empty());
    }

    /// 10,000 rows, ten lines for them: how many cells are made to sort by `column` and to draw, and what is in the lines.
    fn drawn(column: usize, selected: usize) -> (usize, String) {
        let made = Rc::default();
        let all = (0..10_000).map(|number| (format!("nvme{number}"), f64::from(number))).collect();
        let app = App::new(String::new(), Duration::from_secs(1));
        let mut table = Table::new("Many", COLUMNS.to_vec(), Counted { all, made: Rc::clone(&made) });
        table.keep(&app.filter);
        table.sort(column, false);
        let mut screen = Terminal::new(TestBackend::new(40, ABOVE + 10)).expect("a screen in memory");
        let draw_one = |frame: &mut Frame<'_>| draw(&app, &table, Some(selected), frame, frame.area());
        screen.draw(draw_one).expect("nothing can fail in memory");
        (made.get(), screen.backend().to_string())
    }

    #[test]
    fn of_ten_thousand_rows_those_on_the_screen_are_made() {
        for (selected, first, last) in [(0, "nvme0 ", "nvme9 "), (9_999, "nvme9990 ", "nvme9999 ")] {
            let (made, screen) = drawn(0, selected);
            assert_eq!(made, 10 * COLUMNS.len(), "{screen}");
            assert!(screen.contains(first) && screen.contains(last), "{screen}");
        }
        let (made, screen) = drawn(1, 0);
        assert_eq!(made, 10_000 + 10 * COLUMNS.len(), "to sort by a number takes one cell of each\n{screen}");
        assert!(screen.contains("nvme9999 ") && !screen.contains("nvme0 "), "{screen}");
    }
}
