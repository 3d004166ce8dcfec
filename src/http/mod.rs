//! What speaks HTTP: the client API here, the peer API beside it. Handlers hold no rule: they parse, ask and answer.
