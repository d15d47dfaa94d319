//! Graphs as Grafana would show them, drawn into a PNG: for documents, and for people who review a dashboard.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::register_font;

use super::dashboards::Query;
use super::prometheus::Series;

/// Pixels of one graph.
const SIZE: (u32, u32) = (560, 320);
const COLUMNS: usize = 2;
const FONT: &str = "sans-serif";
/// Grafana's classic palette, in its order.
const COLORS: [RGBColor; 8] = [
    RGBColor(115, 191, 105),
    RGBColor(242, 204, 12),
    RGBColor(87, 148, 242),
    RGBColor(255, 152, 48),
    RGBColor(242, 73, 92),
    RGBColor(184, 119, 217),
    RGBColor(112, 93, 160),
    RGBColor(61, 113, 168),
];
const BACKGROUND: RGBColor = RGBColor(24, 27, 31);
const TEXT: RGBColor = RGBColor(204, 204, 220);
const LINES: RGBColor = RGBColor(52, 56, 63);

/// The graph of one panel.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    title: String,
    unit: String,
    is_stacked: bool,
    lines: Vec<(String, Vec<(f64, f64)>)>,
}

impl Graph {
    /// Adds what a query of the panel gave.
    pub fn add(&mut self, query: &Query, series: Vec<Series>) {
        self.title.clone_from(&query.panel);
        self.unit.clone_from(&query.unit);
        self.is_stacked = query.is_stacked;
        for one in series {
            let legend =
                |text: String, (label, value): (&String, &String)| text.replace(&format!("{{{{{label}}}}}"), value);
            let name = one.labels.iter().fold(query.legend.clone(), legend);
            self.lines.push((name, one.points));
        }
    }

    /// The lines as they are drawn: each on top of those before it, if they are stacked.
    fn drawn(&self) -> Vec<(String, Vec<(f64, f64)>)> {
        let mut below = std::collections::BTreeMap::new();
        let mut drawn = Vec::new();
        for (name, points) in &self.lines {
            let on_top = points.iter().map(|(time, value)| {
                // The times of all lines of a query are the same, to the millisecond.
                let height: &mut f64 = below.entry((time * 1000.0).round().to_bits()).or_default();
                *height += value;
                (*time, if self.is_stacked { *height } else { *value })
            });
            drawn.push((name.clone(), on_top.collect()));
        }
        drawn
    }
}

/// Draws graphs side by side into a file.
pub fn draw(path: &Path, graphs: &[Graph]) -> Result<()> {
    register_font(FONT, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT)
        .map_err(|_| anyhow!("the font is none"))?;
    let rows = graphs.len().div_ceil(COLUMNS);
    let size = (SIZE.0 * u32::try_from(COLUMNS)?, SIZE.1 * u32::try_from(rows)?);
    let area = BitMapBackend::new(path, size).into_drawing_area();
    area.fill(&BACKGROUND)?;
    for (cell, graph) in area.split_evenly((rows, COLUMNS)).iter().zip(graphs) {
        draw_one(cell, graph).map_err(|error| anyhow!("{}: {error}", graph.title))?;
    }
    Ok(area.present()?)
}

fn draw_one(cell: &DrawingArea<BitMapBackend<'_>, Shift>, graph: &Graph) -> Result<()> {
    let lines = graph.drawn();
    let points = || lines.iter().flat_map(|(_, points)| points);
    let (first, last) = points().fold((f64::MAX, 1.0), |(first, last), (time, _)| {
        (time.min(first), time.max(last))
    });
    let highest = points().fold(1e-9, |highest, (_, value)| value.max(highest));
    let text = (FONT, 15).into_font().color(&TEXT);
    let mut chart = ChartBuilder::on(cell)
        .caption(&graph.title, (FONT, 19).into_font().color(&TEXT))
        .margin(12)
        .x_label_area_size(24)
        .y_label_area_size(64)
        .build_cartesian_2d(first.min(last)..last, 0.0..highest * 1.1)?;
    chart
        .configure_mesh()
        .bold_line_style(LINES)
        .light_line_style(TRANSPARENT)
        .axis_style(LINES)
        .x_labels(6)
        .y_labels(5)
        .x_label_formatter(&|time| format!("{time:.0} s"))
        .y_label_formatter(&|value| written(*value, &graph.unit))
        .label_style(text.clone())
        .draw()?;
    // The tallest first, so that none hides another.
    for (at, (name, points)) in lines.iter().enumerate().rev() {
        let color = *COLORS.get(at % COLORS.len()).unwrap_or(&TEXT);
        let filled = color.mix(if graph.is_stacked { 0.4 } else { 0.08 });
        let area = AreaSeries::new(points.iter().copied(), 0.0, filled).border_style(color);
        chart
            .draw_series(area)?
            .label(name)
            .legend(move |(x, y)| Rectangle::new([(x, y - 4), (x + 10, y + 4)], color.filled()));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(BACKGROUND.mix(0.7))
        .label_font(text)
        .draw()?;
    Ok(())
}

/// A value as Grafana writes it in this unit.
fn written(value: f64, unit: &str) -> String {
    let (scale, suffix) = match unit {
        "percentunit" => return format!("{:.0} %", value * 100.0),
        "s" => {
            return if value < 1.0 {
                format!("{value:.3} s")
            } else {
                format!("{value:.0} s")
            };
        }
        "bytes" => (1024.0, " B"),
        "Bps" => (1000.0, " B/s"),
        "ops" => (1000.0, "/s"),
        _ => (1000.0, ""),
    };
    let mut rest = value;
    for prefix in ["", "k", "M"] {
        if rest < scale {
            let digits = usize::from(rest < 10.0 && rest.fract() > 0.0);
            return format!("{rest:.digits$}{prefix}{suffix}");
        }
        rest /= scale;
    }
    format!("{rest:.0}G{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_in_their_unit() {
        for (value, unit, text) in [
            (0.25, "percentunit", "25 %"),
            (0.0125, "s", "0.013 s"),
            (90.0, "s", "90 s"),
            (2048.0, "bytes", "2k B"),
            (1_500_000.0, "ops", "1.5M/s"),
            (12.0, "short", "12"),
        ] {
            assert_eq!(written(value, unit), text);
        }
    }

    #[test]
    fn graphs_are_drawn_and_stacked() {
        let line = |value| vec![(0.0, value), (2.0, value + 1.0)];
        let graph = Graph {
            title: "T".to_owned(),
            unit: "short".to_owned(),
            is_stacked: true,
            lines: vec![("a".to_owned(), line(1.0)), ("b".to_owned(), line(3.0))],
        };
        assert_eq!(graph.drawn().last().unwrap().1, [(0.0, 4.0), (2.0, 6.0)]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.png");
        draw(&path, &[graph, Graph::default()]).unwrap();
        let bytes = std::fs::read(path).unwrap();
        assert!(bytes.starts_with(b"\x89PNG") && bytes.len() > 2_000, "{}", bytes.len());
    }
}
