//! Medians, ranges and percentiles of what was measured, and how they are written.

/// Measurements of one thing, in ascending order. Never empty.
#[derive(Clone, Debug)]
pub struct Sample(Vec<f64>);

impl Sample {
    /// `None` when there are none.
    pub fn new(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        (!values.is_empty()).then_some(Self(values))
    }

    pub fn median(&self) -> f64 {
        let middle = self.0.len() / 2;
        if self.0.len() % 2 == 1 {
            self.0[middle]
        } else {
            f64::midpoint(self.0[middle - 1], self.0[middle])
        }
    }

    /// The smallest value that at least `share` of all do not exceed.
    pub fn percentile(&self, share: f64) -> f64 {
        let rank = (share * self.0.len() as f64).ceil() as usize;
        self.0[rank.clamp(1, self.0.len()) - 1]
    }

    pub fn least(&self) -> f64 {
        self.0[0]
    }

    pub fn greatest(&self) -> f64 {
        self.0[self.0.len() - 1]
    }

    /// `median (least–greatest)`.
    pub fn text(&self, decimals: usize) -> String {
        format!(
            "{:.decimals$} ({:.decimals$}–{:.decimals$})",
            self.median(),
            self.least(),
            self.greatest()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::Sample;

    /// Check medians of odd and even counts, and percentiles at their edges.
    #[test]
    fn order_statistics() {
        let sample = |values: &[f64]| Sample::new(values.iter().copied()).unwrap();
        assert_eq!(sample(&[3.0, 1.0, 2.0]).median(), 2.0);
        assert_eq!(sample(&[4.0, 1.0, 2.0, 3.0]).median(), 2.5);
        let hundred = Sample::new((1..=100).rev().map(f64::from)).unwrap();
        assert_eq!(hundred.percentile(0.5), 50.0);
        assert_eq!(hundred.percentile(0.99), 99.0);
        assert_eq!(hundred.percentile(1.0), 100.0);
        assert_eq!(hundred.percentile(0.0), 1.0);
        assert_eq!(sample(&[2.0, 1.25]).text(1), "1.6 (1.2–2.0)");
        assert!(Sample::new([]).is_none());
    }
}
