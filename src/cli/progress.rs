//! How far a long command has come, on standard error where that is a terminal.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Counts tuples; the bar is that of whatever is known to end.
pub(super) struct Progress {
    bar: ProgressBar,
    begun: Instant,
}

impl Progress {
    /// Of a file of so many bytes; `None` where nobody knows.
    pub(super) fn of_bytes(total: Option<u64>) -> Self {
        let style = "{bar:30} {bytes}/{total_bytes}  {msg}  {eta} left";
        Self::new(total, style, "{spinner} {bytes}  {msg}")
    }

    /// Of so many tuples; `None` where nobody knows.
    pub(super) fn of_tuples(total: Option<u64>) -> Self {
        let style = "{bar:30} {human_pos}/{human_len}  {msg}  {eta} left";
        Self::new(total, style, "{spinner} {msg}")
    }

    fn new(total: Option<u64>, known: &str, unknown: &str) -> Self {
        let (bar, style) = match total {
            Some(total) => (ProgressBar::new(total), known),
            None => (ProgressBar::new_spinner(), unknown),
        };
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        Self {
            bar,
            begun: Instant::now(),
        }
    }

    /// So many tuples are done; `position` is in what the bar counts.
    pub(super) fn at(&self, tuples: u64, position: u64) {
        let (tuples, rate) = (thousands(tuples), thousands(self.rate(tuples)));
        self.bar
            .set_message(format!("{tuples} tuples, {rate} a second"));
        self.bar.set_position(position);
    }

    /// Takes the bar away; how long it took, for a person.
    pub(super) fn end(&self, tuples: u64) -> String {
        self.bar.finish_and_clear();
        let took = self.begun.elapsed().as_secs_f64();
        format!("{took:.1} s ({} a second)", thousands(self.rate(tuples)))
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a rate for a person"
    )]
    fn rate(&self, tuples: u64) -> u64 {
        let took = self.begun.elapsed().max(Duration::from_millis(1));
        (tuples as f64 / took.as_secs_f64()) as u64
    }
}

/// `1234567` as `1,234,567`.
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_are_grouped() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(super::thousands(number), text);
        }
    }
}
