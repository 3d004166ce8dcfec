//! The actors of a Lockstep node: they step the machines of `lockstep-protocol` and carry out their effects.

pub mod gateway;
