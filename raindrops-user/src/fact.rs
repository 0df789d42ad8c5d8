//! A figure that may be unknown, or known to be none: absent and `null` in JSON.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Use with `#[serde(default, skip_serializing_if = "Fact::is_unknown")]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fact<T> {
    /// Not known: absent from JSON.
    #[default]
    Unknown,
    /// Known to be none: `null`.
    Nothing,
    Is(T),
}

impl<T> Fact<T> {
    pub const fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown)
    }

    /// The value, if there is one.
    pub const fn value(&self) -> Option<&T> {
        match self {
            Self::Is(value) => Some(value),
            Self::Unknown | Self::Nothing => None,
        }
    }

    /// `None` means that there is none.
    pub fn known(value: Option<T>) -> Self {
        value.map_or(Self::Nothing, Self::Is)
    }

    /// `None` means that it is not known.
    pub fn if_known(value: Option<T>) -> Self {
        value.map_or(Self::Unknown, Self::Is)
    }
}

impl<T: Serialize> Serialize for Fact<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value().serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Fact<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::deserialize(deserializer).map(Self::known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Row {
        #[serde(default, skip_serializing_if = "Fact::is_unknown")]
        name: Fact<u32>,
    }

    #[test]
    fn unknown_is_absent_and_nothing_is_null() {
        for (name, json) in [
            (Fact::Unknown, "{}"),
            (Fact::Nothing, r#"{"name":null}"#),
            (Fact::Is(7), r#"{"name":7}"#),
        ] {
            let row = Row { name };
            assert_eq!(serde_json::to_string(&row).unwrap(), json);
            assert_eq!(serde_json::from_str::<Row>(json).unwrap(), row);
        }
    }
}
