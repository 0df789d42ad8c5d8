//! `raindrops top`: what is on the screen, and what a key does to it.
//!
//! Pure: [`State`] takes keys, views and the time, [`draw`] paints what it is in. Neither reads a
//! clock, asks a daemon or knows a terminal, so that whole screens are compared in tests; the
//! command line does all of that.

mod keys;
mod past;
mod screen;
mod state;
#[cfg(test)]
mod tests;

pub use self::{
    keys::Key,
    screen::{Look, draw},
    state::{Flow, From, Now, State},
};
