//! Every life that a connection or a listener may lead, over real sockets: whole rows against what
//! the kernel and the application say.

mod accepting;
mod ending;
mod listeners;
mod members;
mod mptcp;
mod processes;
mod queue;
mod unix;
