//! How long something takes, in a few characters, as kubectl writes it.

use k8s_openapi::jiff::Timestamp;

/// From one moment to another, such as `45s`, `52m`, `3h20m` or `2d4h`; nothing below zero.
pub(crate) fn between(earlier: Timestamp, later: Timestamp) -> String {
    let seconds = later.as_second().saturating_sub(earlier.as_second()).max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{minutes}m"),
        7_200..172_800 => two(hours, "h", minutes % 60, "m"),
        _ => two(days, "d", hours % 24, "h"),
    }
}

fn two(large: i64, unit: &str, small: i64, smaller: &str) -> String {
    if small == 0 {
        format!("{large}{unit}")
    } else {
        format!("{large}{unit}{small}{smaller}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_units_are_enough() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        for (seconds, text) in [
            (-5, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (7_199, "119m"),
            (7_200, "2h"),
            (12_000, "3h20m"),
            (187_200, "2d4h"),
            (86_400 * 30, "30d"),
        ] {
            assert_eq!(between(at(0), at(seconds)), text, "{seconds}");
        }
    }
}
