//! A table before it is drawn: columns that know how much they matter, cells that know how to sort.

use crate::filter::Filter;
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

/// What the rows of a table are made of. A cell is made when it is asked for: of ten thousand paths a screen shows forty.
pub(crate) trait Devices {
    /// How many there are.
    fn count(&self) -> usize;

    /// What stands in the first column: keeps the selection on the device, and names its past.
    fn name(&self, device: usize) -> &str;

    /// What the device has in a column.
    fn cell(&self, device: usize, column: usize) -> Cell;

    /// What a reset of the device sets to zero.
    fn counters(&self, device: usize) -> Vec<Counter>;
}

/// Columns, and devices in the order in which they are shown.
pub(crate) struct Table<'a> {
    pub(crate) title: &'static str,
    pub(crate) columns: Vec<Column>,
    devices: Box<dyn Devices + 'a>,
    /// By row, which device it shows.
    shown: Vec<usize>,
}

impl<'a> Table<'a> {
    /// All devices, as they come.
    pub(crate) fn new(title: &'static str, columns: Vec<Column>, devices: impl Devices + 'a) -> Self {
        let shown = (0..devices.count()).collect();
        Self { title, columns, devices: Box::new(devices), shown }
    }

    /// How many rows there are.
    pub(crate) fn rows(&self) -> usize {
        self.shown.len()
    }

    /// The name of the device in a row.
    pub(crate) fn name(&self, row: usize) -> &str {
        self.devices.name(self.shown[row])
    }

    /// The row of the device of this name.
    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        (0..self.rows()).find(|&row| self.name(row) == name)
    }

    /// What stands in a row and a column.
    pub(crate) fn cell(&self, row: usize, column: usize) -> Cell {
        self.devices.cell(self.shown[row], column)
    }

    /// What a reset of a row sets to zero.
    pub(crate) fn counters(&self, row: usize) -> Vec<Counter> {
        self.devices.counters(self.shown[row])
    }

    /// Leaves the rows that `filter` admits. One without words looks at none.
    pub(crate) fn keep(&mut self, filter: &Filter) {
        if filter.is_empty() {
            return;
        }
        let (devices, columns) = (&self.devices, self.columns.len());
        self.shown.retain(|&device| {
            let cells: Vec<Cell> = (0..columns).map(|column| devices.cell(device, column)).collect();
            filter.admits(cells.iter().map(|cell| cell.text.as_str()))
        });
    }

    /// Sorts by a column; equals stay in the order of their names. Of the first column, which has the names, no cell is made;
    /// of another, one a row.
    pub(crate) fn sort(&mut self, column: usize, reverse: bool) {
        let devices = &self.devices;
        let names = |a: usize, b: usize| natural_order(devices.name(a), devices.name(b));
        let turned = |order: Ordering| if reverse { order.reverse() } else { order };
        if column == 0 {
            self.shown.sort_by(|&a, &b| turned(names(a, b)));
            return;
        }
        let mut keys: Vec<(Cell, usize)> =
            self.shown.iter().map(|&device| (devices.cell(device, column), device)).collect();
        keys.sort_by(|(a, first), (b, second)| turned(a.compare(b)).then_with(|| names(*first, *second)));
        self.shown = keys.into_iter().map(|(_, device)| device).collect();
    }
}

/// Which of `columns` fit into `width`, by their place.
pub(crate) fn fitting(columns: &[Column], width: u16) -> Vec<usize> {
    let mut shown: Vec<usize> = (0..columns.len()).collect();
    loop {
        let needed: u16 = shown.iter().map(|&i| columns[i].width + 1).sum();
        let leaves = shown
            .iter()
            .enumerate()
            .filter(|(_, column)| columns[**column].spare > 0)
            .max_by_key(|(place, column)| (columns[**column].spare, *place))
            .map(|(place, _)| place);
        match leaves {
            Some(place) if needed > width + 1 => {
                shown.remove(place);
            }
            _ => return shown,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::cell;
    use std::rc::Rc;

    /// Devices of a name and a number that count how many cells were made of them.
    pub(crate) struct Counted {
        pub(crate) all: Vec<(String, f64)>,
        pub(crate) made: Rc<cell::Cell<usize>>,
    }

    impl Devices for Counted {
        fn count(&self) -> usize {
            self.all.len()
        }

        fn name(&self, device: usize) -> &str {
            &self.all[device].0
        }

        fn cell(&self, device: usize, column: usize) -> Cell {
            self.made.set(self.made.get() + 1);
            let (name, number) = &self.all[device];
            if column == 0 { Cell::text(name.clone()) } else { Cell::number(*number, number.to_string()) }
        }

        fn counters(&self, _: usize) -> Vec<Counter> {
            Vec::new()
        }
    }

    pub(crate) const COLUMNS: [Column; 2] = [Column::text("Name", 10, 0), Column::number("Number", 6, 1)];

    fn table() -> Table<'static> {
        let all = [("nvme10", 5.0), ("nvme2", 7.0), ("nvme1", 5.0)].map(|(name, number)| (name.to_owned(), number));
        Table::new("", COLUMNS.to_vec(), Counted { all: all.to_vec(), made: Rc::default() })
    }

    fn names<'a>(table: &'a Table<'_>) -> Vec<&'a str> {
        (0..table.rows()).map(|row| table.name(row)).collect()
    }

    #[test]
    fn names_rise_and_numbers_fall() {
        let mut table = table();
        table.sort(0, false);
        assert_eq!(names(&table), ["nvme1", "nvme2", "nvme10"]);
        assert_eq!((table.find("nvme2"), table.find("nvme3")), (Some(1), None));
        table.sort(0, true);
        assert_eq!(names(&table), ["nvme10", "nvme2", "nvme1"]);
        table.sort(1, false);
        assert_eq!(names(&table), ["nvme2", "nvme1", "nvme10"]);
        table.sort(1, true);
        assert_eq!(names(&table), ["nvme1", "nvme10", "nvme2"], "equals keep the order of their names");
    }

    #[test]
    fn a_filter_looks_at_every_cell_and_none_at_nothing() {
        let mut table = table();
        let mut filter = Filter::default();
        table.keep(&filter);
        assert_eq!(table.rows(), 3);
        filter.push('7');
        table.keep(&filter);
        assert_eq!(names(&table), ["nvme2"], "its number has the word");
    }

    #[test]
    fn what_can_be_spared_leaves_first_and_what_cannot_stays() {
        assert_eq!(fitting(&COLUMNS, 17), [0, 1]);
        assert_eq!(fitting(&COLUMNS, 16), [0]);
        assert_eq!(fitting(&COLUMNS, 3), [0], "cut, but there");
    }
}
