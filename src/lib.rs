//! azfed
