//! Who asks the daemon, and how many do: users who may not see everything, clients that ask for the
//! past or for views one after another, and a crowd of those that mean no good.

mod crowd;
mod past;
mod trust;
