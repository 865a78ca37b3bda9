//! What a command is: its keys, what it may do to them, its deadlines, and how it is rewritten.
