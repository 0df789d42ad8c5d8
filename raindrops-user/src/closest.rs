//! The candidate nearest to what somebody typed, for error messages.
//!
//! Apart from selection because configuration keys and HTTP paths need it too. What was typed may
//! come from a hostile client, so the work is bounded whatever its length.

/// Longer input than this cannot be a typing error.
const MAX_CHARS: usize = 128;
/// More candidates than this are not compared.
const MAX_CANDIDATES: usize = 1024;

/// The candidate with the fewest edits from `typed`; the first of equals.
pub fn closest<'a>(typed: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let typed: Vec<char> = typed.chars().take(MAX_CHARS).collect();
    candidates
        .into_iter()
        .take(MAX_CANDIDATES)
        .map(|candidate| (edits(&typed, candidate), candidate))
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance.
fn edits(typed: &[char], candidate: &str) -> usize {
    let mut row: Vec<usize> = (0..=typed.len()).collect();
    for (line, want) in candidate.chars().take(MAX_CHARS).enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, have) in typed.iter().enumerate() {
            let replace = diagonal + usize::from(want != *have);
            diagonal = row[column + 1];
            row[column + 1] = replace.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[typed.len()]
}

#[cfg(test)]
mod tests {
    use super::closest;

    #[test]
    fn finds_the_candidate_with_the_fewest_edits() {
        let keys = ["socket", "sample_hz", "log"];
        for (typed, found) in [
            ("sampel_hz", "sample_hz"),
            ("sockets", "socket"),
            ("lgo", "log"),
            ("", "log"),
        ] {
            assert_eq!(closest(typed, keys), Some(found), "{typed}");
        }
        assert_eq!(closest("x", []), None);
    }

    #[test]
    fn long_input_is_cut() {
        let typed = "/".repeat(1 << 20);
        assert_eq!(closest(&typed, ["/a", "//"]), Some("//"));
    }
}
