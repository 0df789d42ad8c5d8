//! Slabs from other languages: the C library and its header, the bindings for Ruby and Python, and
//! real servers that count through them.

mod axum;
mod c;
mod gunicorn;
mod rack;
mod scripts;
