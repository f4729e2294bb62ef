//! The picture: one line per case, its ratio with quartiles, and the bar.

use crate::report::Report;
use anyhow::{Result, anyhow};
use plotters::prelude::*;

const WIDTH: u32 = 900;
const ROW: u32 = 22;
const BELOW: u32 = 90;
const NAMES: u32 = 260;

/// As SVG.
pub(crate) fn svg(report: &Report) -> Result<String> {
    let mut text = String::new();
    draw(report, &mut text).map_err(|error| anyhow!("the picture cannot be drawn: {error}"))?;
    Ok(text)
}

fn draw(report: &Report, text: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let rows = report.cases.len() as u32;
    let area = SVGBackend::with_string(text, (WIDTH, rows * ROW + BELOW)).into_drawing_area();
    area.fill(&WHITE)?;
    let most = report.cases.iter().map(|row| row.ratio.upper).fold(1.0, f64::max) + 0.05;
    let height = f64::from(rows);
    let mut chart = ChartBuilder::on(&area)
        .margin(10)
        .margin_bottom(30)
        .x_label_area_size(BELOW - 50)
        .y_label_area_size(NAMES)
        .build_cartesian_2d(0.0..most, height..0.0)?;
    let name = |y: &f64| {
        let row = report.cases.get(*y as usize);
        row.map_or(String::new(), |row| format!("{}, QD {}", row.case, row.queue_depth))
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(0)
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.15))
        .x_desc("ratio to the limit program, with quartiles")
        .draw()?;
    let small = ("sans-serif", 11).into_font().color(&BLACK.mix(0.6));
    area.draw(&Text::new(report.method(), (10, (rows * ROW + BELOW) as i32 - 22), small))?;
    for (at, row) in report.cases.iter().enumerate() {
        let y = at as f64 + 0.5;
        let colour = match row.bar_met {
            Some(true) => RGBColor(0x1b, 0x7f, 0x3b),
            Some(false) => RGBColor(0xc0, 0x39, 0x2b),
            None => RGBColor(0x55, 0x66, 0x77),
        };
        let line = [(row.ratio.lower, y), (row.ratio.upper, y)];
        chart.draw_series(LineSeries::new(line, colour.stroke_width(3)))?;
        chart.draw_series([Circle::new((row.ratio.median, y), 4, colour.filled())])?;
        let style = ("sans-serif", 12).into_font().color(&BLACK);
        let top = 10 + at as i32 * ROW as i32 + 5;
        area.draw(&Text::new(name(&y), (10, top), style))?;
    }
    chart.draw_series(DashedLineSeries::new([(report.bar, 0.0), (report.bar, height)], 4, 4, BLACK.into()))?;
    area.present()?;
    Ok(())
}
