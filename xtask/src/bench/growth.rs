//! The cost of a task as batches grow: it falls while the start of processes still counts, and then stays.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use plotters::prelude::*;
use plotters::style::register_font;

use super::run::Bench;
use super::table::{Figure, Unit, median};

/// Sizes, and how often each is run: the largest takes minutes.
const SIZES: [(u64, usize); 7] = [
    (100_000, 5),
    (300_000, 5),
    (1_000_000, 5),
    (3_000_000, 3),
    (10_000_000, 3),
    (30_000_000, 1),
    (100_000_000, 1),
];
/// The quick form ends here.
const QUICK: u64 = 1_000_000;
const FONT: &str = "sans-serif";

/// Nanoseconds per task, from START to DONE, over the size of the batch.
pub(crate) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let mut points = Vec::new();
    let mut figures = Vec::new();
    for (tasks, runs) in SIZES.into_iter().filter(|(tasks, _)| !bench.quick || *tasks <= QUICK) {
        let spec = format!("completions: {tasks}\nparallelism: 2\n{}", bench.library());
        let title = format!("cost of a task, batch of {tasks}");
        let mut samples = Vec::new();
        for run in 1..=runs.min(bench.rounds) {
            println!("{title}, run {run} of {runs}");
            samples.push(bench.run(&spec, &[("BENCH_TASK", "empty")])?.batch * 1e9 / tasks as f64);
        }
        points.push((tasks as f64, median(samples.clone()).context("no run")?));
        figures.push(Figure::alone(&title, Unit::NanosecondsPerTask, samples, None));
    }
    let picture = bench.context.cache.join("growth.png");
    draw(&picture, &points).map_err(|error| anyhow!("the picture cannot be drawn: {error}"))?;
    println!("drawn: {}", picture.display());
    Ok(figures)
}

fn draw<'a>(path: &'a Path, points: &[(f64, f64)]) -> Result<(), Box<dyn std::error::Error + 'a>> {
    register_font(FONT, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT).map_err(|_| "the font")?;
    let highest = points.iter().fold(0.0_f64, |most, (_, cost)| most.max(*cost)) * 1.1;
    let largest = points.iter().fold(1e6_f64, |most, (tasks, _)| most.max(*tasks));
    let root = BitMapBackend::new(path, (800, 420)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption("Cost of an empty task, START to DONE", (FONT, 22))
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d((1e5..largest).log_scale(), 0.0..highest)?;
    chart
        .configure_mesh()
        .x_desc("tasks in the batch")
        .y_desc("ns per task")
        .x_label_formatter(&|tasks| format!("10^{:.0}", tasks.log10()))
        .label_style((FONT, 15))
        .draw()?;
    chart.draw_series(LineSeries::new(points.iter().copied(), BLUE.stroke_width(2)))?;
    chart.draw_series(points.iter().map(|point| Circle::new(*point, 4, BLUE.filled())))?;
    root.present()?;
    Ok(())
}
