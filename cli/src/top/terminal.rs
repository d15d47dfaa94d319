//! The driver of the page on a terminal: it reads keys, looks once a second, and draws.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::widgets::Paragraph;
use tracing::subscriber::NoSubscriber;

use super::feed::{Feed, Seen};
use super::page::{Page, Wish};
use super::{TopArgs, screen};
use crate::cluster::block_on;
use crate::exit::Failure;
use crate::run::stops::Stops;

/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Inputs that wait: keys come one by one, and a look waits for the one before.
const WAITING: usize = 16;

/// What the page hears of.
enum Input {
    Wish(Wish),
    /// The terminal has another size.
    Resized,
    Seen(Box<Result<Seen, Failure>>),
    /// Somebody ends the program from outside.
    Stopped,
    /// The terminal cannot be read any more.
    Deaf,
}

/// Shows the page until somebody has seen enough. The terminal is as it was afterwards, also after a panic or a signal.
pub(super) fn run(args: &TopArgs) -> Result<(), Failure> {
    let feed = Feed::new(args)?;
    let page = Page::new(feed.opened());
    let (sender, inputs) = sync_channel(WAITING);
    let send = move || {
        let sender = sender.clone();
        move |input| sender.send(input).is_ok()
    };
    let stopped = send();
    let stops = thread::Builder::new().spawn(move || {
        let waited = block_on(async {
            Stops::new()?.next().await;
            Ok(())
        });
        stopped(if waited.is_ok() { Input::Stopped } else { Input::Deaf })
    });
    stops.map_err(Failure::infrastructure)?;
    let (wake, woken) = channel();
    let (looked, pressed) = (send(), send());
    let looks = thread::Builder::new().spawn(move || look(feed, &woken, looked));
    looks.map_err(Failure::infrastructure)?;
    // This makes a panic restore the terminal first.
    let mut terminal = ratatui::try_init().map_err(Failure::infrastructure)?;
    let keys = thread::Builder::new().spawn(move || read_keys(pressed));
    let shown = match keys {
        Ok(_) => show(&mut terminal, page, &inputs, &wake),
        Err(error) => Err(Failure::infrastructure(error)),
    };
    ratatui::restore();
    shown
}

fn show(
    terminal: &mut DefaultTerminal,
    mut page: Page,
    inputs: &Receiver<Input>,
    wake: &Sender<Option<String>>,
) -> Result<(), Failure> {
    let mut open = page.open().map(str::to_owned);
    // Whoever looks ends with the program.
    let _ = wake.send(open.clone());
    loop {
        terminal
            .draw(|frame| {
                let columns = usize::from(frame.area().width);
                let lines = screen::lines(&page, columns, Timestamp::now());
                frame.render_widget(Paragraph::new(lines), frame.area());
            })
            .map_err(|error| Failure::infrastructure(format!("the terminal cannot be written: {error}")))?;
        match inputs.recv() {
            Ok(Input::Wish(wish)) => {
                if !page.obey(wish) {
                    return Ok(());
                }
            }
            Ok(Input::Seen(looked)) => match *looked {
                Ok(seen) => page.take(Instant::now(), seen),
                Err(failure) => page.fail(failure.message),
            },
            Ok(Input::Resized) => {}
            Ok(Input::Stopped | Input::Deaf) | Err(_) => return Ok(()),
        }
        if page.open() != open.as_deref() {
            open = page.open().map(str::to_owned);
            let _ = wake.send(open.clone());
        }
    }
}

/// Looks once a second, and at once when another batch is opened.
fn look(mut feed: Feed, woken: &Receiver<Option<String>>, tell: impl Fn(Input) -> bool) {
    // A line of a log in the middle of the page helps nobody; what fails is told on the page.
    let _quiet = tracing::subscriber::set_default(NoSubscriber::default());
    let Ok(mut open) = woken.recv() else { return };
    loop {
        if !tell(Input::Seen(Box::new(feed.look(open.as_deref())))) {
            return;
        }
        match woken.recv_timeout(LOOK_EVERY) {
            Ok(other) => open = other,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn read_keys(tell: impl Fn(Input) -> bool) {
    loop {
        let input = match event::read() {
            Ok(Event::Key(key)) => wish(key).map(Input::Wish),
            Ok(Event::Resize(..)) => Some(Input::Resized),
            Ok(_) => None,
            Err(_) => Some(Input::Deaf),
        };
        let deaf = matches!(input, Some(Input::Deaf));
        if input.is_some_and(|input| !tell(input)) || deaf {
            return;
        }
    }
}

/// What a key means.
fn wish(key: KeyEvent) -> Option<Wish> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    match key.code {
        KeyCode::Char('c' | 'd') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Wish::Quit),
        KeyCode::Char('q') => Some(Wish::Quit),
        KeyCode::Up | KeyCode::Char('k') => Some(Wish::Up),
        KeyCode::Down | KeyCode::Char('j') => Some(Wish::Down),
        KeyCode::Enter | KeyCode::Right => Some(Wish::Open),
        KeyCode::Esc | KeyCode::Left | KeyCode::Backspace => Some(Wish::Back),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_their_meanings() {
        let key = |code, modifiers| wish(KeyEvent::new(code, modifiers));
        assert_eq!(key(KeyCode::Char('q'), KeyModifiers::NONE), Some(Wish::Quit));
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Wish::Quit));
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::NONE), None);
        assert_eq!(key(KeyCode::Down, KeyModifiers::NONE), Some(Wish::Down));
        assert_eq!(key(KeyCode::Enter, KeyModifiers::NONE), Some(Wish::Open));
        assert_eq!(key(KeyCode::Esc, KeyModifiers::NONE), Some(Wish::Back));
    }
}
