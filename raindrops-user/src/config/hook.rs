//! How accepts are to be seen, as it may be said. Apart from the hooks that there are, because a name
//! more is understood.

use std::str::FromStr;

use serde::Deserialize;

use crate::plan::AcceptHook;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HookName {
    Auto,
    Fexit,
    Syscall,
    /// In the control group's getpeername: none of our programs is made for it.
    Peername,
    None,
}

impl HookName {
    pub const ALL: [Self; 5] = [
        Self::Auto,
        Self::Fexit,
        Self::Syscall,
        Self::Peername,
        Self::None,
    ];

    /// `None` where no program is made for it.
    #[must_use]
    pub const fn hook(self) -> Option<AcceptHook> {
        match self {
            Self::Auto => Some(AcceptHook::Auto),
            Self::Fexit => Some(AcceptHook::Fexit),
            Self::Syscall => Some(AcceptHook::Syscall),
            Self::Peername => None,
            Self::None => Some(AcceptHook::None),
        }
    }

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Fexit => "fexit",
            Self::Syscall => "syscall",
            Self::Peername => "peername",
            Self::None => "none",
        }
    }
}

impl FromStr for HookName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut all = Self::ALL.into_iter();
        all.find(|it| it.name() == text)
            .ok_or("auto, fexit, syscall or none")
    }
}
