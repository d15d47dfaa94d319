//! Waiting for what comes true by itself.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::{Instant, sleep, timeout_at};

/// Between two looks. Short against what a cluster does, long against what a look costs.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Asks until the answer is good. At the deadline the last answer is the error: let it say what was seen.
pub async fn eventually<T>(what: &str, within: Duration, mut ask: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + within;
    let mut last = anyhow::anyhow!("the first look was not over");
    loop {
        match timeout_at(deadline, ask()).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => last = error,
            Err(_) => {}
        }
        if Instant::now() >= deadline {
            return Err(last).with_context(|| format!("waited {within:?} for {what}; last seen"));
        }
        sleep(LOOK_AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_answer_is_the_error() {
        let mut looks = 0;
        let error = eventually("rain", Duration::from_millis(500), async || -> Result<()> {
            looks += 1;
            anyhow::bail!("sun, look {looks}")
        });
        let error = format!("{:#}", error.await.unwrap_err());
        assert!(
            error.starts_with("waited 500ms for rain; last seen: sun, look "),
            "{error}"
        );
        assert!(looks > 1);
    }
}
