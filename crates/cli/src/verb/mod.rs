//! One verb, one file.

pub mod change;
pub mod demo;
pub mod faults;
pub mod import;
pub mod look;
pub mod moment;
pub mod playground;
pub mod proxy;
pub mod run;
pub mod settled;
