use std::time::Instant;

use harmony_api::status::{Failure, HarmonyBatchStatus};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::widgets::Paragraph;

use super::super::feed::Seen;
use super::super::page::Wish;
use super::*;

fn batch(name: &str, succeeded: u64, failed: u64) -> Overview {
    Overview {
        name: name.into(),
        place: "in namespace team-a".into(),
        created: Some(Timestamp::UNIX_EPOCH),
        parallelism: Some(4),
        status: HarmonyBatchStatus {
            state: Some("Running".into()),
            ready: 3,
            throughput_per_second: Some("10.0".into()),
            tasks: Some(TaskCounts {
                total: 1000,
                pending: 1000 - succeeded - failed,
                in_flight: 8,
                succeeded,
                failed,
                ..TaskCounts::default()
            }),
            failures: vec![Failure {
                number: 7,
                attempt: 4,
                reason: "ExitCode".into(),
                exit_code: Some(1),
                worker: Some("hb-render-0".into()),
                log_tail: Some("no such frame\n".into()),
                ..Failure::default()
            }],
            ..HarmonyBatchStatus::default()
        },
        commands: Vec::new(),
    }
}

fn page() -> Page {
    let mut page = Page::new(None);
    let seen = Seen {
        batches: vec![batch("render", 411, 1), batch("encode", 0, 0)],
        detail: None,
    };
    page.take(Instant::now(), seen);
    page
}

fn text(page: &Page) -> String {
    let now = Timestamp::from_second(100).unwrap();
    let lines = lines(page, 90, now);
    let lines: Vec<String> = lines
        .iter()
        .map(|line| line.to_string().trim_end().to_owned())
        .collect();
    lines.join("\n")
}

#[test]
fn all_batches_make_a_table_and_the_chosen_one_stands_out() {
    let mut page = page();
    let expected = "\
2 batches   (up, down, enter; q ends)

NAME    STATE    PROGRESS         RATE    ETA   WORKERS  FAILED  AGE
render  Running  412/1000 (41 %)  10.0/s  58s   3 of 4   1       100s
encode  Running  0/1000 (0 %)     10.0/s  100s  3 of 4   0       100s";
    assert_eq!(text(&page), expected);
    page.obey(Wish::Down);
    let mut terminal = Terminal::new(TestBackend::new(40, 6)).unwrap();
    terminal
        .draw(|frame| {
            let lines = lines(&page, 40, Timestamp::UNIX_EPOCH);
            frame.render_widget(Paragraph::new(lines), frame.area());
        })
        .unwrap();
    let buffer = terminal.backend().buffer();
    let is_chosen = |row: u16| buffer[(0, row)].modifier.contains(Modifier::REVERSED);
    assert_eq!([3, 4].map(is_chosen), [false, true]);
    assert_eq!(buffer[(39, 3)].symbol(), "\u{2026}", "what does not fit is cut visibly");
}

#[test]
fn one_batch_fills_a_page() {
    let mut page = page();
    page.obey(Wish::Open);
    let expected = "\
render in namespace team-a   (esc shows all; q ends)

[################........................] 412/1000 (41 %)   10.0/s   done in about 58s
Running: 411 succeeded, 1 failed, 8 at workers, 3 of 4 workers ready

asking why it is not done ...

Failures
  task 7  attempt 4  ExitCode 1  hb-render-0  no such frame";
    assert_eq!(text(&page), expected);
}

#[test]
fn trouble_is_told_below() {
    let mut page = page();
    page.fail("cannot list batches\n".into());
    assert!(text(&page).ends_with("\n\ncannot list batches"));
    let mut nothing = Page::new(None);
    assert!(text(&nothing).starts_with("looking ..."));
    nothing.take(Instant::now(), Seen::default());
    assert!(text(&nothing).starts_with("there is no batch"));
}
