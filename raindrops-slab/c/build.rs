//! Gives the shared library its name, without which programs would look for it where it was built.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libraindrops_slab.so");
}
