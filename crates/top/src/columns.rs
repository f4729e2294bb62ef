//! A table before it is drawn: columns that know how much they matter, cells that know how to sort.

use interlock_observe::{Counter, natural_order};
use std::cmp::Ordering;

/// What a value says of its health; drawn as a colour, always beside the word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tone {
    #[default]
    Plain,
    Faint,
    Good,
    Warning,
    Bad,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) title: &'static str,
    /// Characters, of the title at least.
    pub(crate) width: u16,
    pub(crate) right: bool,
    /// 0 is shown on every screen; higher ones leave first when the screen is narrow.
    pub(crate) spare: u8,
}

impl Column {
    pub(crate) const fn text(title: &'static str, width: u16, spare: u8) -> Self {
        Self { title, width, right: false, spare }
    }

    pub(crate) const fn number(title: &'static str, width: u16, spare: u8) -> Self {
        Self { title, width, right: true, spare }
    }
}

/// How a cell compares with others of its column.
#[derive(Clone, Debug, PartialEq)]
enum Rank {
    Name,
    Number(f64),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cell {
    pub(crate) text: String,
    pub(crate) tone: Tone,
    rank: Rank,
}

impl Cell {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), tone: Tone::Plain, rank: Rank::Name }
    }

    pub(crate) fn number(value: f64, text: String) -> Self {
        let tone = if value == 0.0 { Tone::Faint } else { Tone::Plain };
        Self { text, tone, rank: Rank::Number(value) }
    }

    /// A counter of things that should not happen.
    pub(crate) fn trouble(value: Option<u64>, tone: Tone) -> Self {
        let number = value.unwrap_or_default();
        Self {
            text: crate::numbers::total(value),
            tone: if number == 0 { Tone::Faint } else { tone },
            rank: Rank::Number(number as f64),
        }
    }

    pub(crate) fn toned(self, tone: Tone) -> Self {
        Self { tone, ..self }
    }

    fn compare(&self, other: &Self) -> Ordering {
        match (&self.rank, &other.rank) {
            // The largest number is what one looks for.
            (Rank::Number(a), Rank::Number(b)) => b.total_cmp(a),
            _ => natural_order(&self.text, &other.text),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    /// Name of the device: keeps the selection on it, and names its past.
    pub(crate) device: String,
    pub(crate) cells: Vec<Cell>,
    /// What a reset of this row sets to zero.
    pub(crate) counters: Vec<Counter>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Table {
    pub(crate) title: &'static str,
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: Vec<Row>,
}

impl Table {
    /// Sorts by a column; equals stay in the order of their names.
    pub(crate) fn sort(&mut self, column: usize, reverse: bool) {
        self.rows.sort_by(|a, b| {
            let order = a.cells[column].compare(&b.cells[column]);
            let order = if reverse { order.reverse() } else { order };
            order.then_with(|| natural_order(&a.device, &b.device))
        });
    }

    /// The columns that fit into `width`, by their place in the row.
    pub(crate) fn fitting(&self, width: u16) -> Vec<usize> {
        let mut shown: Vec<usize> = (0..self.columns.len()).collect();
        loop {
            let needed: u16 = shown.iter().map(|&i| self.columns[i].width + 1).sum();
            let leaves = shown
                .iter()
                .enumerate()
                .filter(|(_, column)| self.columns[**column].spare > 0)
                .max_by_key(|(place, column)| (self.columns[**column].spare, *place))
                .map(|(place, _)| place);
            match leaves {
                Some(place) if needed > width + 1 => {
                    shown.remove(place);
                }
                _ => return shown,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let row = |name: &str, number: f64| Row {
            device: name.into(),
            cells: vec![Cell::text(name), Cell::number(number, number.to_string())],
            counters: Vec::new(),
        };
        Table {
            title: "",
            columns: vec![Column::text("Name", 10, 0), Column::number("Number", 6, 1)],
            rows: vec![row("nvme10", 5.0), row("nvme2", 7.0), row("nvme1", 5.0)],
        }
    }

    fn names(table: &Table) -> Vec<&str> {
        table.rows.iter().map(|row| row.device.as_str()).collect()
    }

    #[test]
    fn names_rise_and_numbers_fall() {
        let mut table = table();
        table.sort(0, false);
        assert_eq!(names(&table), ["nvme1", "nvme2", "nvme10"]);
        table.sort(1, false);
        assert_eq!(names(&table), ["nvme2", "nvme1", "nvme10"]);
        table.sort(1, true);
        assert_eq!(names(&table), ["nvme1", "nvme10", "nvme2"], "equals keep the order of their names");
    }

    #[test]
    fn what_can_be_spared_leaves_first_and_what_cannot_stays() {
        let table = table();
        assert_eq!(table.fitting(17), [0, 1]);
        assert_eq!(table.fitting(16), [0]);
        assert_eq!(table.fitting(3), [0], "cut, but there");
    }
}
